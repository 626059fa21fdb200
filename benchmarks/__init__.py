"""Benchmarks: one script an operation or a stage."""
