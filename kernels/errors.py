"""Errors that the kernels raise."""

from __future__ import annotations


class KernelInputError(ValueError):
    """An argument cannot be what it is: its shape, dtype, device or content is wrong."""


class LabelError(KernelInputError):
    """A target is not a class that it can be."""


class BackendError(RuntimeError):
    """A backend was named that cannot run here; the message says why."""
