"""A table of where a model's parameters are."""

from __future__ import annotations

from torch import nn


def parameter_counts(module: nn.Module) -> tuple[int, int]:
    """Return (trainable, all) parameter counts; tied parameters count once."""
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)


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
