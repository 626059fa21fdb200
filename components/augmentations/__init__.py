"""Augmentations of features."""
