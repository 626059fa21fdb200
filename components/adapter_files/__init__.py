"""Adapters of speech LLMs as files: peft folders, and full weights that they are merged into."""
