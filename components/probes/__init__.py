"""Probes: what a frozen representation still tells, measured by models that start fresh."""
