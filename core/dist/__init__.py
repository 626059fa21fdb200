"""Processes of a distributed run."""
