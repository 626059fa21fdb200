"""Let a CPU run keep the memory that it frees, for its next step."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD = -1
"""Parameter of glibc's mallopt: free bytes at the end of the heap that are given back."""

M_MMAP_MAX = -4
"""Parameter of glibc's mallopt: requests served by memory mappings of their own."""

OWN_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Environment variables by which users tune or replace the allocator."""


def keep_freed_memory() -> bool:
    """Ask the C allocator not to return freed memory to the system; say whether it will.

    A training step on CPU frees activations of many megabytes that the next layer wants again.
    glibc returns such blocks at once, and clearing their pages anew took a sixth of a Conformer's
    step. Afterwards the process keeps its largest size until it ends.

    Nothing is changed where an environment variable shows that the user tuned or replaced the
    allocator, on other systems than Linux, or where the C library has no ``mallopt``.
    """
    if sys.platform != "linux" or any(name.startswith(OWN_SETTINGS) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1)
