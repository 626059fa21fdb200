"""Probes as bars: how far each stands above what guessing gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.probes.intervals import mean
from components.probes.report import ProbeReport
from components.visuals.figure import SMALL, Canvas, Image

_COLOURS = ("#9aa5b1", "#2b6cb0", "#c05621", "#2f855a")
_CHANCE = "#1a202c"
_CONTROL = "#c53030"
_ERROR = "#4a5568"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bar:
    """A figure between 0 and 1.

    Args:
        label: of its row.
        value: its length.
        text: beside it.
        interval: of the value; None where there is none.
        chance: what guessing gives.
        control: what a probe of shuffled labels gives; None where there is none.
    """

    label: str
    value: float
    text: str
    interval: tuple[float, float] | None = None
    chance: float = 0.0
    control: float | None = None


def probe_image(reports: Sequence[ProbeReport], *, title: str) -> Image:
    """Draw up to four representations: accuracies, shares of variance, verification.

    Whiskers are 95 % intervals, binomial for accuracies and over seeds for shares of variance. A
    dark line marks chance, a red one the probe of shuffled labels. Unseen speakers are told apart
    with accuracy 1 - EER, by guessing with 0.5. Shares of variance below 0 are drawn as 0.

    Args:
        reports: of the same properties, such as a twin without an adversary and a run with one.
        title: above the picture.
    """
    canvas = Canvas()
    (axes,) = canvas.axes
    bars = [{bar.label: bar for bar in _bars(report)} for report in reports]
    labels = list(dict.fromkeys(label for each in bars for label in each))
    height = 0.8 / len(reports)
    for row, label in enumerate(labels):
        for number, each in enumerate(bars):
            if label in each:
                place = -row + 0.4 - (number + 0.5) * height
                _draw(canvas, each[label], place, height, _COLOURS[number % len(_COLOURS)])
        chance = next(each[label].chance for each in bars if label in each)
        axes.vlines(chance, -row - 0.42, -row + 0.42, color=_CHANCE, linewidth=1.2)
    axes.set_xlim(0.0, 1.12)
    axes.set_ylim(-len(labels) + 0.5, 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.ticks(axes, [float(-row) for row in range(len(labels))], labels)
    colours = {report.name: _COLOURS[n % len(_COLOURS)] for n, report in enumerate(reports)}
    canvas.key(axes, {**colours, "chance": _CHANCE, "shuffled labels": _CONTROL})
    canvas.title(title)
    return canvas.pixels()


def _draw(canvas: Canvas, bar: _Bar, place: float, height: float, colour: str) -> None:
    (axes,) = canvas.axes
    axes.barh(place, bar.value, height=0.9 * height, color=colour)
    end = bar.value
    if bar.interval is not None:
        low, high = bar.interval
        end = high
        axes.errorbar(
            [bar.value],
            [place],
            xerr=[[max(bar.value - low, 0.0)], [max(high - bar.value, 0.0)]],
            fmt="none",
            ecolor=_ERROR,
            elinewidth=1.0,
            capsize=2.0,
        )
    if bar.control is not None:
        half = 0.3 * height
        axes.vlines(bar.control, place - half, place + half, color=_CONTROL, linewidth=1.6)
    canvas.label(axes, end + 0.01, place, bar.text, ha="left", fontsize=SMALL)


def _bars(report: ProbeReport) -> Iterator[_Bar]:
    for name, results in report.classes.items():
        for told in results:
            yield _Bar(
                label=f"{name}, {told.kind}",
                value=told.accuracy,
                text=f"{told.accuracy:.1%}",
                interval=told.interval,
                chance=told.chance,
                control=mean(told.control),
            )
    for name, found in report.numbers.items():
        for number in found:
            value = _inside(number.value)
            low, high = (_inside(bound) for bound in number.seed_interval)
            yield _Bar(
                label=f"{name}, {number.kind}, R2",
                value=value,
                text=f"{number.value:.2f}",
                interval=(low, high) if len(number.r2) > 1 else None,
            )
    if report.verification is not None:
        share = 1.0 - report.verification.eer
        yield _Bar(label="unseen speakers", value=share, text=f"{share:.1%}", chance=0.5)


def _inside(value: float) -> float:
    return min(max(value, 0.0), 1.0)
