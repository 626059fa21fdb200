"""Text normalisers: transcripts to the form that is trained on and scored."""
