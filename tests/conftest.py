"""Let Triton's kernels run here: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os

import torch

# Triton reads the variable as it is imported, for its own library too, and bitsandbytes and peft
# import Triton: it must stand before any test module is collected.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")
