"""A table of where a model's parameters are."""

from __future__ import annotations

from torch import nn
from torch.nn import Parameter


def parameter_counts(module: nn.Module) -> tuple[int, int]:
    """Return (trainable, all) parameter counts; tied parameters count once.

    Quantised ones count as what they stand for, not as the bytes that several are packed into.
    """
    counts = [(_count(parameter), parameter.requires_grad) for parameter in module.parameters()]
    return sum(n for n, trainable in counts if trainable), sum(n for n, _ in counts)


def parameter_table(module: nn.Module, *, depth: int = 2) -> list[str]:
    """Return one line for each submodule that holds parameters, down to ``depth`` levels."""
    rows: list[tuple[str, str, int, int]] = []
    for name, child in module.named_modules():
        trainable, everything = parameter_counts(child)
        if everything and name.count(".") < depth:
            rows.append((name or "(all)", type(child).__name__, trainable, everything))
    if not rows:
        return ["no parameters yet"]
    widths = [max(len(str(row[column])) for row in rows) for column in (0, 1)]
    lines = [f"{'module':<{widths[0]}}  {'class':<{widths[1]}}  {'trainable':>13}  {'all':>13}"]
    lines += [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {trainable:>13,}  {everything:>13,}"
        for name, kind, trainable, everything in rows
    ]
    return lines


def _count(parameter: Parameter) -> int:
    # As bitsandbytes describes what it packs; None before it does.
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else int(packed.shape.numel())
