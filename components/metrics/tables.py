"""Error counts as rows of text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len

from components.metrics.error_rate import ErrorCounts

LABELS = {
    "wer": "WER",
    "cer": "CER",
    "cer_without_spaces": "CER without spaces",
    "jamo_error_rate": "jamo error rate",
}
"""What people call a rate, by its name in JSON."""

RATE_HEADER = ("rate %", "errors", "sub", "ins", "del", "of")


def rate_row(counts: ErrorCounts) -> tuple[str, ...]:
    """Return the cells below :data:`RATE_HEADER`."""
    numbers = (counts.errors, counts.substitutions, counts.insertions, counts.deletions)
    return (f"{100 * counts.rate:.2f}", *map(str, numbers), str(counts.reference_length))


def as_figures(counts: ErrorCounts) -> dict[str, Any]:
    """Return counts for JSON; a rate without a finite value is None."""
    return {
        "rate": counts.rate if math.isfinite(counts.rate) else None,
        "errors": counts.errors,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
        "reference_length": counts.reference_length,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align numbers to the right and other text to the left; wide characters take two cells."""
    lines = [header, *rows]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(header))]
    made = []
    for line in lines:
        cells = []
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            padding = " " * (width - cell_len(cell))
            cells.append(padding + cell if _is_number(rows[0][column]) else cell + padding)
        made.append("  " + "  ".join(cells).rstrip())
    return made


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-").replace(".", "").isdigit() or cell == "inf"
