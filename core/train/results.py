"""What a finished run says last: test metrics with the best weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

RESULTS = "results.json"
ERROR_RATES = ("cer", "eer", "wer")
"""Metrics that people read in percent, whatever follows in their name: ``cer_unadapted``."""


def read_results(path: Path) -> dict[str, float]:
    """Return the metrics of ``results.json``, without the step and epoch they belong to."""
    found: dict[str, float | None] = json.loads(path.read_text())
    return {n: math.nan if value is None else value for n, value in found.items() if "/" in n}


def write_results(path: Path, results: Mapping[str, float | str | int]) -> None:
    """Write ``results.json`` in one piece; what is not finite is null, as JSON has no NaN."""
    shown = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in results.items()
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(shown, indent=2) + "\n")
    os.replace(temporary, path)


def result_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return a table of ``split/name`` metrics: a row for each split; error rates in percent."""
    splits: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        split, _, name = key.partition("/")
        splits.setdefault(split, {})[name] = value
    names = sorted({name for row in splits.values() for name in row})
    width = max((len(split) for split in splits), default=0)
    widths = {name: max(len(name) + 2, 10) for name in names}
    lines = [" " * width + "".join(f"{name:>{widths[name]}}" for name in names)]
    for split, row in splits.items():
        cells = "".join(f"{_cell(name, row.get(name)):>{widths[name]}}" for name in names)
        lines.append(f"{split:<{width}}{cells}")
    return lines


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2%}" if name.split("_")[0] in ERROR_RATES else f"{value:.4f}"
