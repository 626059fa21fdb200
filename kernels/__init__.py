"""Fused kernels for the losses; they import torch and Triton alone."""
