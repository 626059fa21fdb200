"""The kernels and configurations to compile offline; imported without TRITON_INTERPRET."""

from __future__ import annotations

from kernels.masked_ce.triton_rows import fits_registers, launch_options, resident, streamed
from tests.kernels.offline import Variant


def variant(dtype: str, vocabulary: int, *, gradient: bool, weighted: bool) -> Variant:
    """Return a launch as :class:`kernels.masked_ce.triton.TritonEngine` does it."""
    itemsize = int(dtype[2:]) // 8
    block, warps = launch_options(vocabulary, itemsize)
    sums = "*fp64" if itemsize == 8 else "*fp32"
    arguments = {
        "logits": f"*{dtype}",
        "targets": "*i64",
        "losses": sums,
        "hits": "*i32",
    }
    constants = {"VOCABULARY": vocabulary, "BLOCK": block, "GRADIENT": gradient}
    if weighted:
        arguments["weights"] = sums
    else:
        constants["weights"] = None
    return Variant(
        label=f"{dtype}, V={vocabulary}, gradient={gradient}, weighted={weighted}",
        kernel=resident if fits_registers(vocabulary, itemsize) else streamed,
        arguments=arguments,
        constants=constants,
        options={"num_warps": warps},
    )


VARIANTS = [
    variant("bf16", 500, gradient=True, weighted=False),
    variant("bf16", 8192, gradient=False, weighted=False),
    variant("bf16", 8192, gradient=True, weighted=False),
    variant("bf16", 8192, gradient=True, weighted=True),
    variant("fp16", 8192, gradient=True, weighted=True),
    variant("fp32", 8192, gradient=True, weighted=True),
    # No vector loads where rows are not aligned: the most registers.
    variant("fp32", 8191, gradient=True, weighted=True),
    variant("bf16", 8191, gradient=True, weighted=True),
    variant("bf16", 32000, gradient=False, weighted=False),
    variant("bf16", 32000, gradient=True, weighted=True),
    variant("fp32", 32001, gradient=True, weighted=True),
    variant("fp64", 4096, gradient=True, weighted=True),
    variant("fp64", 8192, gradient=True, weighted=True),
]
