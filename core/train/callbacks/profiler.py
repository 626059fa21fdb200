"""A window of steps under torch's profiler, as a trace file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "profiler")
class Profiler(Callback):
    """Records ``steps`` optimiser steps from ``start`` on into ``RUN/profile/``.

    The trace opens in Perfetto or chrome://tracing; the table of the costliest operators is
    written beside it.

    Args:
        start: last step before the window.
        steps: length of the window.
    """

    priority = 90

    def __init__(self, *, start: int = 10, steps: int = 3) -> None:
        self.start = start
        self.steps = steps
        self._profile: torch.profiler.profile | None = None

    def on_step_end(self, loop: Loop) -> None:
        """Open the window after step ``start`` and close it ``steps`` later."""
        if not loop.ranks.is_main:
            return
        step = loop.progress.step
        if step == self.start:
            self._profile = torch.profiler.profile(record_shapes=True, profile_memory=True)
            self._profile.start()
        elif self._profile is not None and step >= self.start + self.steps:
            self._close(loop)

    def on_end(self, loop: Loop) -> None:
        """Write what there is if training ends inside the window."""
        if self._profile is not None:
            self._close(loop)

    def _close(self, loop: Loop) -> None:
        profile, self._profile = self._profile, None
        assert profile is not None
        profile.stop()
        folder = loop.run.path / "profile"
        folder.mkdir(exist_ok=True)
        name = f"steps_{self.start + 1:08d}-{loop.progress.step:08d}"
        profile.export_chrome_trace(str(folder / f"{name}.json"))
        by = "cuda_time_total" if loop.ranks.device.type == "cuda" else "cpu_time_total"
        table = profile.key_averages().table(sort_by=by, row_limit=40)
        (folder / f"{name}.txt").write_text(table)
        loop.say(f"profile of steps {self.start + 1} to {loop.progress.step}: {folder / name}.json")
