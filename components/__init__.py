"""Encoders, heads, losses, data sources and the rest: one registered component a file."""
