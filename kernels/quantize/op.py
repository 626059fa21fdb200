"""The public op: shapes checked, wrapped so that ``torch.compile`` sees one opaque call."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.dispatch import implementation
from kernels.errors import KernelInputError
from kernels.sharding import is_sharded

OP: Final = "random_projection_targets"
MAX_TRITON_CODE_DIM: Final = 64
"""Beyond it the search spills registers."""


def random_projection_targets(
    features: Tensor,
    projection: Tensor,
    codebooks: Tensor,
    *,
    chunk_bytes: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return the id of the code nearest by cosine to each projected feature, in every book.

    The targets of BEST-RQ (Chiu et al. 2022, equation 1): with unit-norm codes the nearest by
    Euclidean distance after both are normalised is the one of the largest dot product.

    Ids are those of float64 arithmetic on the given values, whatever their dtypes, under autocast
    and with TF32 allowed too. Codes whose similarities differ by less than 2^-48 for each step
    between their ids (below 2^-35 for 8,192 codes) are tied, and the lowest of them is the target:
    of equal codes the first, and 0 for features that are all zero. Features that hold NaN or
    infinity have no direction and get id 0. If a code holds NaN, the ids of its book mean nothing,
    but are within [0, V).

    There is no gradient. Nothing waits for the device; on CUDA the (N, C, V) similarities are
    never written (triton) or written by chunks (torch).

    Args:
        features: (..., F) of any floating dtype.
        projection: (C, F, K), a projection for each of C books.
        codebooks: (C, V, K) codes; of any length, only their directions count.
        chunk_bytes: about how much memory to use beside the result; by default 8 MiB on CPU (which
            stays in cache) and 128 MiB elsewhere.
        backend: ``auto``, ``reference``, ``torch`` or ``triton``.

    Returns:
        (..., C) int64 ids in [0, V).

    Raises:
        KernelInputError: a shape, dtype or device does not fit the others.
        BackendError: the backend cannot run here.
    """
    _check(features, projection, codebooks)
    if chunk_bytes is not None and chunk_bytes < 1:
        raise KernelInputError(f"chunk_bytes: expected at least 1, found {chunk_bytes}")
    ids: Tensor = torch.ops.sori.random_projection_targets(
        features.detach(), projection.detach(), codebooks.detach(), chunk_bytes, backend
    )
    return ids


@torch.library.custom_op("sori::random_projection_targets", mutates_args=())
def _random_projection_targets(
    features: Tensor, projection: Tensor, codebooks: Tensor, chunk_bytes: int | None, backend: str
) -> Tensor:
    code_dim = codebooks.shape[-1]
    unsupported = ""
    if code_dim > MAX_TRITON_CODE_DIM:
        unsupported = f"codes of {code_dim} dimensions, it takes {MAX_TRITON_CODE_DIM} at most"
    module = implementation(
        "kernels.quantize", OP, backend, features.device, unsupported=unsupported
    )
    rows = features.reshape(-1, features.shape[-1])
    # Autocast leaves float64 alone, which is all that the backends hand to a matrix product.
    ids: Tensor = module.targets(rows, projection, codebooks, chunk_bytes=chunk_bytes)
    return ids.view(*features.shape[:-1], len(projection))


@_random_projection_targets.register_fake
def _(
    features: Tensor, projection: Tensor, codebooks: Tensor, chunk_bytes: int | None, backend: str
) -> Tensor:
    return features.new_empty(*features.shape[:-1], len(projection), dtype=torch.int64)


def _check(features: Tensor, projection: Tensor, codebooks: Tensor) -> None:
    """Refuse what does not fit together."""
    named = {"features": features, "projection": projection, "codebooks": codebooks}
    for name, tensor in named.items():
        if is_sharded(tensor):
            raise KernelInputError(
                f"{name}: a DTensor; pass the whole tensor, {name}.full_tensor(). Targets need "
                "every code, and projection and codebooks are small and frozen"
            )
        if not tensor.is_floating_point():
            raise KernelInputError(f"{name}: expected a floating dtype, found {tensor.dtype}")
        if tensor.device != features.device:
            raise KernelInputError(
                f"{name}: is on {tensor.device}, features are on {features.device}; expected one"
            )
    if features.device.type == "mps":
        raise KernelInputError("features: on mps, which has no float64; move them to the CPU")
    for name, tensor, form in (
        ("projection", projection, "(C, F, K)"),
        ("codebooks", codebooks, "(C, V, K)"),
    ):
        if tensor.dim() != 3 or 0 in tensor.shape:
            raise KernelInputError(
                f"{name}: expected {form}, none of them 0, found {tuple(tensor.shape)}"
            )
    books, dim, code_dim = projection.shape
    if codebooks.shape[0] != books or codebooks.shape[2] != code_dim:
        raise KernelInputError(
            f"codebooks: expected ({books}, V, {code_dim}) for a projection of "
            f"{tuple(projection.shape)}, found {tuple(codebooks.shape)}"
        )
    if features.dim() < 1 or features.shape[-1] != dim:
        raise KernelInputError(
            f"features: expected (..., {dim}) for a projection of {tuple(projection.shape)}, "
            f"found {tuple(features.shape)}"
        )
