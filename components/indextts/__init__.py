"""Weights in the form of IndexTTS2: its ``gpt.pth``, both ways."""
