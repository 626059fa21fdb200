"""What the fused ops of this framework and of plugins can run on this machine."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from core.catalog.records import FIRST_PARTY, Broken

ENTRY_POINT_GROUP = "sori.kernels"
"""Entry points of this group name a function that returns a list of :class:`Status`."""

OWN = "kernels.dispatch:statuses"
"""That function of the folder beside ``core``, imported only when it is asked for."""


class Status(Protocol):
    """One backend of one op on one device, a dataclass.

    Args:
        op: name of the function.
        summary: what it computes.
        backend: name of the implementation.
        device: for which the rest holds.
        available: whether it can run.
        automatic: whether ``backend="auto"`` takes it.
        reason: why it cannot run; empty if it can.
    """

    op: str
    summary: str
    backend: str
    device: str
    available: bool
    automatic: bool
    reason: str


def collect() -> tuple[list[tuple[str, Status]], list[Broken]]:
    """Return each status with the distribution it comes from, and what could not be asked."""
    rows: list[tuple[str, Status]] = []
    broken: list[Broken] = []
    for label, place in _reporters():
        try:
            module, _, function = place.partition(":")
            found = list(getattr(importlib.import_module(module), function)())
            wrong = [row for row in found if not is_dataclass(row)]
            if wrong:
                raise TypeError(f"expected dataclasses, found {wrong[0]!r}")
        except Exception as error:  # a plugin may fail in any way, and the others still count
            reason = f"{type(error).__name__}: {error}"
            broken.append(Broken(package=label, where=place, reason=reason))
            continue
        rows += [(label, row) for row in found]
    return rows, broken


def as_text(rows: Sequence[tuple[str, Status]], broken: Sequence[Broken]) -> str:
    """Return a page with a paragraph for each op."""
    lines: list[str] = []
    heading: tuple[str, str] | None = None
    for label, row in rows:
        if (label, row.op) != heading:
            heading = (label, row.op)
            owner = "" if label == FIRST_PARTY else f" [{label}]"
            lines += ["", f"{row.op}{owner}: {row.summary}"]
        chosen = "; backend=auto takes it" if row.automatic else ""
        state = f"runs on {row.device}{chosen}" if row.available else f"cannot run: {row.reason}"
        lines.append(f"  {row.backend:<10} {state}")
    lines += ["", *(f"broken: {item}" for item in broken)] if broken else []
    return "\n".join(lines[1:])


def as_json(rows: Sequence[tuple[str, Status]], broken: Sequence[Broken]) -> dict[str, Any]:
    """Return the same for ``json.dumps``."""
    return {
        "kernels": [{"package": label, **asdict(row)} for label, row in rows],  # type: ignore[call-overload]
        "broken": [asdict(item) for item in broken],
    }


def _reporters() -> Iterator[tuple[str, str]]:
    yield FIRST_PARTY, OWN
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: (p.value, p.name)):
        yield point.dist.name if point.dist else point.name, point.value
