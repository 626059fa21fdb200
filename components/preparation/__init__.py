"""Verbs of ``core.prepare``: what is made once before training."""
