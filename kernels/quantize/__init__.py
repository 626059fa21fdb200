"""Targets of a random-projection quantiser (BEST-RQ, NEST)."""

from kernels.quantize.op import random_projection_targets

__all__ = ["random_projection_targets"]
