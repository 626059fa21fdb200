"""Scores to token sequences."""
