"""Experiment configurations: loaded, overridden, checked, saved, compared and explained."""
