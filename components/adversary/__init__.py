"""Adversaries: classifiers that a representation learns to tell nothing."""
