"""Probes as bars: how far each stands above chance."""

from __future__ import annotations

from collections.abc import Sequence

from components.probes.classification import ProbeResult
from components.probes.report import ProbeReport
from components.visuals.figure import SMALL, Canvas, Image

_COLOURS = ("#9aa5b1", "#2b6cb0", "#c05621", "#2f855a")
_CHANCE = "#1a202c"


def probe_image(reports: Sequence[ProbeReport], *, title: str) -> Image:
    """Draw the accuracies of up to four representations with their binomial intervals.

    A thin line through each bar's row marks chance.

    Args:
        reports: of the same properties, such as a twin without an adversary and a run with one.
        title: above the picture.
    """
    canvas = Canvas()
    (axes,) = canvas.axes
    places: list[float] = []
    names: list[str] = []
    labels = [(name, result.kind) for name, found in reports[0].classes.items() for result in found]
    height = 0.8 / len(reports)
    for row, (name, kind) in enumerate(labels):
        places.append(float(-row))
        names.append(f"{name}, {kind}")
        for number, report in enumerate(reports):
            result = _find(report, name, kind)
            if result is None:
                continue
            place = -row + 0.4 - (number + 0.5) * height
            low, high = result.interval
            axes.barh(
                place,
                result.accuracy,
                height=0.9 * height,
                color=_COLOURS[number % len(_COLOURS)],
                xerr=[[result.accuracy - low], [high - result.accuracy]],
                error_kw={"elinewidth": 1.0, "capsize": 2.0, "ecolor": "#4a5568"},
            )
            canvas.label(
                axes, high + 0.01, place, f"{result.accuracy:.1%}", ha="left", fontsize=SMALL
            )
            axes.vlines(result.chance, -row - 0.45, -row + 0.45, color=_CHANCE, linewidth=1.0)
    axes.set_xlim(0.0, 1.12)
    axes.set_ylim(-len(labels) + 0.5, 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.ticks(axes, places, names)
    canvas.key(
        axes,
        {report.name: _COLOURS[n % len(_COLOURS)] for n, report in enumerate(reports)}
        | {"chance": _CHANCE},
    )
    canvas.title(title)
    return canvas.pixels()


def _find(report: ProbeReport, name: str, kind: str) -> ProbeResult | None:
    return next((r for r in report.classes.get(name, ()) if r.kind == kind), None)
