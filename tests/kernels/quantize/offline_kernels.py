"""The quantiser's kernels as they are launched on CUDA; imported where nothing is interpreted."""

from __future__ import annotations

from kernels.quantize import triton as backend
from kernels.quantize.triton_kernels import search_kernel, settle_kernel
from tests.kernels.offline import Variant

LAUNCH = ("num_warps", "num_stages")


def _variants(books: int, size: int, code_dim: int) -> list[Variant]:
    shape = {"books": books, "size": size, "code_dim": code_dim}
    search, settle = backend.search_options(code_dim), backend.settle_options(code_dim)
    label = f"C={books} V={size} K={code_dim}"
    return [
        Variant(
            label=label,
            kernel=search_kernel,
            arguments={"points": "*fp32", "codes": "*fp32", "ids": "*i64", "rows": "i32"},
            constants=shape | {k: v for k, v in search.items() if k not in LAUNCH},
            options={k: search[k] for k in LAUNCH},
        ),
        Variant(
            label=label,
            kernel=settle_kernel,
            arguments={"points": "*fp64", "codes": "*fp64", "ids": "*i64", "items": "i32"},
            constants=shape | {k: v for k, v in settle.items() if k not in LAUNCH},
            options={k: settle[k] for k in LAUNCH},
        ),
    ]


VARIANTS = [
    *_variants(1, 8192, 16),
    *_variants(16, 8192, 16),
    *_variants(3, 1000, 12),
    *_variants(1, 8192, 32),
    *_variants(1, 8192, 64),
]
