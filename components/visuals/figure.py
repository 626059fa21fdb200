"""Figures as pixel arrays: drawn off screen, without global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.visuals.lettering import lettering

Image = NDArray[np.uint8]
"""(H, W, 3) pixels."""

WIDTH, HEIGHT = 900, 400
SMALL, NORMAL = 8.0, 9.5
"""Font sizes in points."""

_DPI = 100
_TITLE_WIDTH = 0.97 * WIDTH


class Canvas:
    """A matplotlib figure of ``WIDTH`` by ``HEIGHT`` pixels, drawn by Agg.

    It does not touch ``pyplot``, so pictures may be drawn in a training loop or a thread. All text
    goes through :meth:`label`, :meth:`ticks` and :meth:`title`, which know which characters can be
    drawn and never read mathematics into a transcript with dollar signs.

    Args:
        rows: heights of the axes from top to bottom, in proportion; they share their x axis.
    """

    def __init__(self, *, rows: Sequence[float] = (1.0,)) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._lettering = lettering()
        self._figure = Figure(
            figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, layout="constrained", facecolor="white"
        )
        self._canvas = FigureCanvasAgg(self._figure)
        grid = self._figure.subplots(
            len(rows), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(rows)}
        )
        self.axes: list[Any] = list(grid[:, 0])
        for axes in self.axes:
            axes.tick_params(labelsize=SMALL, labelfontfamily=list(self._lettering.families))
            if axes is not self.axes[-1]:
                axes.tick_params(axis="x", length=0)

    def title(self, text: str) -> None:
        """Write one line above the picture, shortened to its width."""
        text = self._lettering.printable(text)
        title = self._figure.suptitle(
            text, x=0.01, ha="left", parse_math=False, **self._font(NORMAL)
        )
        renderer = self._canvas.get_renderer()
        width = title.get_window_extent(renderer).width
        while width > _TITLE_WIDTH:
            text = text[: int(len(text) * _TITLE_WIDTH / width) - 1]
            title.set_text(text + "…")
            width = title.get_window_extent(renderer).width

    def label(self, axes: Any, x: float, y: float, text: str, **style: Any) -> None:  # noqa: ANN401
        """Write ``text`` centred at a point in the coordinates of ``axes``."""
        style = {"ha": "center", "va": "center", **self._font(SMALL), **style}
        axes.text(x, y, self._lettering.printable(text), parse_math=False, **style)

    def printable(self, text: str) -> str:
        """Return what :meth:`label` writes for ``text``."""
        return self._lettering.printable(text)

    def seconds(self, end: float) -> None:
        """Run the time axis from 0 to ``end`` seconds."""
        bottom = self.axes[-1]
        bottom.set_xlim(0.0, max(end, 1e-3))
        bottom.set_xlabel("seconds", **self._font(SMALL))

    def ticks(self, axes: Any, places: Sequence[float], names: Sequence[str]) -> None:  # noqa: ANN401
        """Name places on the y axis."""
        axes.set_yticks(list(places), [self._lettering.printable(name) for name in names])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)

    def side(self, axes: Any, text: str) -> None:  # noqa: ANN401
        """Name the y axis."""
        axes.set_ylabel(text, **self._font(SMALL))

    def scale(self, mappable: Any, axes: Any, text: str) -> None:  # noqa: ANN401
        """Add a colour bar beside ``axes``."""
        bar = self._figure.colorbar(mappable, ax=axes, pad=0.01, fraction=0.03)
        bar.set_label(text, **self._font(SMALL))
        bar.ax.tick_params(labelsize=SMALL)
        bar.outline.set_visible(False)

    def key(self, axes: Any, colours: Mapping[str, str]) -> None:  # noqa: ANN401
        """Explain colours, given by what they mean, at the right below ``axes``."""
        from matplotlib.patches import Patch

        axes.legend(
            handles=[Patch(color=colour, label=name) for name, colour in colours.items()],
            loc="upper right",
            bbox_to_anchor=(1.0, -0.25),
            ncols=len(colours),
            frameon=False,
            fontsize=SMALL,
            handlelength=0.9,
            handleheight=0.9,
            borderpad=0.0,
        )

    def pixels(self) -> Image:
        """Draw."""
        self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _font(self, size: float) -> dict[str, Any]:
        return {"fontsize": size, "fontfamily": list(self._lettering.families)}


def visible_token(token: str) -> str:
    """Return a token with its spaces made visible."""
    return token.replace(" ", "␣") or "␣"
