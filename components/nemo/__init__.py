"""Weights in NeMo's form: state dicts by NeMo's names, and ``.nemo`` archives, both ways."""
