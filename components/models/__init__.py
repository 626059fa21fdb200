"""Whole models whose tensors have published names."""
