"""Optimisers over named parameter groups."""
