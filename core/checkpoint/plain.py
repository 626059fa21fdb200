"""State as values that ``torch.load(weights_only=True)`` reads back: data, never code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import CheckpointError

_SCALARS: tuple[type[Any], ...] = (int, float, str, bytes)


def plain(value: Any, *, path: str) -> Any:  # noqa: ANN401
    """Return ``value`` as CPU tensors, dicts, lists, tuples, numbers, strings and None.

    NumPy arrays become tensors and NumPy scalars become Python ones. Subclasses (an ``IntEnum``, a
    ``defaultdict``, a ``Parameter``) become their base type.

    Args:
        value: what to store.
        path: where it stands, such as ``state.callbacks``; used in the error.

    Raises:
        CheckpointError: something is of a type that cannot be stored without code.
    """
    if isinstance(value, Tensor):
        return _compact(value.detach().cpu())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return plain(value.item(), path=path)
    if value is None or isinstance(value, bool):
        return value
    for base in _SCALARS:
        if isinstance(value, base):
            return base(value)
    if isinstance(value, Mapping):
        return {
            plain(key, path=f"{path} (a key)"): plain(item, path=f"{path}.{key}")
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [plain(item, path=f"{path}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, set | frozenset):
        return {plain(item, path=f"{path} (an element)") for item in value}
    raise CheckpointError(
        f"{path} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be stored "
        "in a checkpoint; expected tensors, arrays, numbers, strings, dicts, lists or None"
    )


def flat_weights(weights: Mapping[str, Tensor], *, path: str) -> dict[str, Tensor]:
    """Return weights as contiguous CPU tensors, no two of which share memory.

    Tied weights are written once under each of their names, so that the file loads with nothing
    but safetensors and a strict ``load_state_dict``.

    Raises:
        CheckpointError: an entry is not a dense tensor.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            kind = type(value).__qualname__
            raise CheckpointError(f"{path}['{name}'] is a {kind}; expected a dense tensor")
        tensor = value.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        found[name] = tensor
    return found


def size_of(value: Any) -> int:  # noqa: ANN401
    """Return the bytes of all tensors inside a value that :func:`plain` returned."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(size_of(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(size_of(item) for item in value)
    return 0


def _compact(tensor: Tensor) -> Tensor:
    """Return a tensor that does not drag a larger storage into the file."""
    if tensor.layout is torch.strided and tensor.untyped_storage().nbytes() > tensor.nbytes:
        return tensor.clone()
    return tensor
