"""Tokenizers: text to ids and back; id 0 is the CTC blank."""
