"""The kernels of the Triton engine for CTC in the configurations in which it launches them."""

from __future__ import annotations

from typing import Any, Final

from kernels.ctc.engine import Terms
from kernels.ctc.triton_columns import COLUMNS, put
from kernels.ctc.triton_lattice import sweep
from kernels.ctc.triton_posteriors import finish, shape_for, tile_for, warps_for
from kernels.ctc.triton_rows import launch_for, measure
from tests.kernels.offline import Variant

TYPES: Final = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}
FUSION: Final = {"enable_fp_fusion": True}


def _sweep(labels: int, *, keep: bool, join: bool, wide: bool = False) -> Variant:
    shape = shape_for(labels, 8 if wide else 4)
    real = "*fp64" if wide else "*fp32"
    return Variant(
        label=f"U={labels} K={shape.neighbours} lanes={shape.lanes} depth={shape.depth} "
        f"keep={keep:d} join={join:d} {real[1:]}",
        kernel=sweep,
        arguments={
            "emissions": real,
            "states": real,
            "middle": real,
            "excesses": "*fp64",
            "links": "*i32",
            "targets": "*i64",
            "first_rows": "*i64",
            "input_lengths": "*i64",
            "target_lengths": "*i64",
            "rows": "i32",
            "width": "i32",
            "max_frames": "i32",
        },
        constants={
            "K": shape.neighbours,
            "LANES": shape.lanes,
            "DEPTH": shape.depth,
            "KEEP": keep,
            "JOIN": join,
            "FAST": not wide,
        },
        options={"num_warps": shape.lanes // 32, **FUSION},
    )


def _finish(labels: int, *, posteriors: bool) -> Variant:
    shape = shape_for(labels, 4)
    return Variant(
        label=f"U={labels} posteriors={posteriors:d}",
        kernel=finish,
        arguments={
            "states": "*fp32",
            "middle": "*fp32",
            "excesses": "*fp64",
            "links": "*i32",
            "losses": "*fp32",
            "posteriors": "*fp32",
            "first_rows": "*i64",
            "input_lengths": "*i64",
            "target_lengths": "*i64",
            "rows": "i32",
            "width": "i32",
            "max_frames": "i32",
        },
        constants={
            "K": shape.neighbours,
            "LANES": shape.lanes,
            "TILE": tile_for(shape),
            "POSTERIORS": posteriors,
        },
        options={"num_warps": warps_for(shape), **FUSION},
        listing=False,
    )


def _measure(classes: int, dtype: str, terms: Terms, *, gradient: bool = True) -> Variant:
    wide = dtype == "float64"
    views = 2 if terms.consistency else 1
    launch = launch_for(classes, 8 if wide else 4, terms)
    logits, real = f"*{TYPES[dtype]}", "*fp64" if wide else "*fp32"
    arguments: dict[str, str] = {
        "logits": logits,
        "out": logits,
        "columns": "*i64",
        "utterances": "*i64",
        "weights": real,
        "emissions": real,
        "regularisers": real,
        "entropies": real,
        **dict.fromkeys(("width", "height", "blank"), "i32"),
        **dict.fromkeys(("smoothing", "bonus", "penalty", "consistency"), "i64"),
    }
    constants: dict[str, Any] = {
        "VIEWS": views,
        "CLASSES": classes,
        "BLOCK": launch.block,
        "COLUMNS": COLUMNS,
        "RESIDENT": launch.resident,
        "SMOOTHING": terms.label_smoothing != 0,
        "BONUS": terms.entropy_bonus != 0,
        "PENALTY": terms.blank_penalty != 0,
        "GRADIENT": gradient,
        "FAST": not wide,
    }
    return Variant(
        label=f"V={classes} {dtype} block={launch.block} warps={launch.warps} "
        f"views={views} regularised={terms.regularised:d} gradient={gradient:d}",
        kernel=measure,
        arguments=arguments,
        constants=constants,
        options={"num_warps": launch.warps, **FUSION},
        listing=terms == PLAIN and gradient,
    )


def _put(dtype: str) -> Variant:
    return Variant(
        label=dtype,
        kernel=put,
        arguments={
            "grad": f"*{TYPES[dtype]}",
            "columns": "*i64",
            "utterances": "*i64",
            "values": "*fp64" if dtype == "float64" else "*fp32",
            "width": "i32",
        },
        constants={"CLASSES": 5000, "COLUMNS": COLUMNS},
        options={"num_warps": 1, **FUSION},
        listing=False,
    )


PLAIN: Final = Terms()
ALL_BUT_VIEWS: Final = Terms(label_smoothing=0.1, entropy_bonus=0.1, blank_penalty=0.1)
ALL: Final = Terms(label_smoothing=0.1, entropy_bonus=0.1, blank_penalty=0.1, consistency=0.1)

SWEEPS: Final = [
    _sweep(labels, keep=keep, join=join)
    for labels in (31, 63, 127, 255)
    for keep, join in ((False, False), (True, False), (True, True))
] + [
    _sweep(2047, keep=True, join=True),
    _sweep(2047, keep=True, join=True, wide=True),
    _sweep(127, keep=True, join=True, wide=True),
]
VARIANTS: Final = [
    *SWEEPS,
    *(_finish(labels, posteriors=True) for labels in (31, 255, 1023, 2047)),
    _finish(2047, posteriors=False),
    *(_measure(classes, "bfloat16", PLAIN) for classes in (128, 1024, 5000, 32000, 262144)),
    *(_measure(classes, "bfloat16", ALL) for classes in (1024, 16384, 262144)),
    _measure(32768, "bfloat16", ALL_BUT_VIEWS),
    _measure(32768, "float32", PLAIN),
    _measure(32768, "float16", PLAIN, gradient=False),
    _measure(16384, "float64", ALL_BUT_VIEWS),
    *(_put(dtype) for dtype in ("bfloat16", "float64")),
]
