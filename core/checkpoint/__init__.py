"""Checkpoints: written whole, found by step, loaded without executing anything."""
