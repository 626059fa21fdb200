"""Experiment files: each composes one stage of training."""
