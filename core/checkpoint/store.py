"""The checkpoints of a run: names, retention, and which one to take."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from core.checkpoint.atomic import discard, sweep, write_text
from core.checkpoint.format import read_meta, verify, write_checkpoint
from core.errors import CheckpointError

LATEST = "LATEST"
BEST = "BEST"
_NAME = re.compile(r"step_(\d+)(?:-.*)?")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Saved:
    """A directory with the name of a checkpoint; complete or not."""

    path: Path
    step: int

    @cached_property
    def meta(self) -> dict[str, Any] | None:
        """What ``meta.json`` says, None if files are missing or truncated."""
        try:
            verify(self.path)
            return read_meta(self.path)
        except CheckpointError:
            return None

    def score(self, monitor: str, mode: str) -> float | None:
        """Return the monitored metric, turned so that lower is better; None if there is none."""
        value = ((self.meta or {}).get("metrics") or {}).get(monitor)
        if value is None or not math.isfinite(value):
            return None
        return float(value) if mode == "min" else -float(value)


class CheckpointStore:
    """Checkpoints in a directory, under a retention policy.

    Which checkpoint is newest is decided by the steps in their names, never by file times.
    ``LATEST`` and ``BEST`` are files that hold a name, for people and for :meth:`best`.

    Args:
        directory: where the checkpoints live.
        keep_last: newest checkpoints to keep, at least 1.
        keep_best: best checkpoints to keep; 0 to keep and mark none.
        keep_every: also keep every checkpoint whose step is a multiple of this; None for none.
        monitor: metric that decides ``BEST`` and stands in the names.
        mode: whether a lower or a higher ``monitor`` is better.
        best_from: first step that may be the best.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 3,
        keep_best: int = 1,
        keep_every: int | None = None,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        best_from: int = 0,
    ) -> None:
        if keep_last < 1 or keep_best < 0 or (keep_every is not None and keep_every < 1):
            raise CheckpointError(
                f"keep_last={keep_last}, keep_best={keep_best}, keep_every={keep_every}: expected "
                "at least 1, at least 0, and None or at least 1"
            )
        self.directory = directory
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.keep_every = keep_every
        self.monitor = monitor
        self.mode = mode
        self.best_from = best_from

    def name(self, step: int, epoch: int, metrics: Mapping[str, float]) -> str:
        """Return the name of a checkpoint, such as ``step_00012000-epoch03-val0.4123``."""
        value = metrics.get(self.monitor)
        shown = f"-val{value:.4f}" if value is not None and math.isfinite(value) else ""
        return f"step_{step:08d}-epoch{epoch:02d}{shown}"

    def save(
        self,
        *,
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
        model: Mapping[str, Tensor],
        state: Mapping[str, Any],
        ema: Mapping[str, Tensor] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        assets: Path | None = None,
        config_dir: Path | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a checkpoint, mark it, and apply the retention policy.

        It replaces what an earlier attempt saved at the same step. See
        :func:`core.checkpoint.format.write_checkpoint` for the other arguments and the errors.
        """
        numbers = {key: float(value) for key, value in metrics.items()}
        facts = {
            **(meta or {}),
            "step": step,
            "epoch": epoch,
            "metrics": {k: v if math.isfinite(v) else None for k, v in numbers.items()},
            "monitor": {"name": self.monitor, "mode": self.mode, "best_from": self.best_from},
        }
        path = write_checkpoint(
            self.directory,
            self.name(step, epoch, numbers),
            model=model,
            ema=ema,
            optimizer=optimizer,
            state=state,
            assets=assets,
            config_dir=config_dir,
            meta=facts,
        )
        self._mark(LATEST, path)
        for other in self._saved():
            if other.step == step and other.path != path:
                discard(other.path)
        self._retain(path)
        return path

    def clean(self, say: Callable[[str], None] = _logger.warning) -> None:
        """Remove what a killed writer left half-written, and say so.

        Only for the one process that writes the run, before it saves.
        """
        found = sweep(self.directory)
        if found:
            say(f"removed {len(found)} unfinished write(s) from {self.directory}: {found}")

    def latest(self, say: Callable[[str], None] = _logger.warning) -> Path | None:
        """Return the newest complete checkpoint, None if there is none.

        Content is compared with its checksums. For each newer one that is damaged, ``say`` gets a
        line with it, the reason, and what is taken instead.
        """
        return _first_complete(sorted(self._saved(), key=lambda s: s.step, reverse=True), say)

    def best(self, say: Callable[[str], None] = _logger.warning) -> Path | None:
        """Return the checkpoint that ``BEST`` names, None if no checkpoint has been marked.

        If it is damaged the next best complete one is taken, and said.
        """
        marked = self._marked(BEST)
        if marked is None:
            return None
        rule = (read_meta_or_none(marked) or {}).get("monitor") or {}
        monitor, mode = rule.get("name", self.monitor), rule.get("mode", self.mode)
        ranked = self._ranked(monitor, mode, rule.get("best_from", self.best_from))
        others = [s for s in ranked if s.path != marked]
        return _first_complete([_Saved(marked, _step(marked) or 0), *others], say)

    def _saved(self) -> Iterator[_Saved]:
        for path in sorted(self.directory.glob("step_*")):
            step = _step(path)
            if step is not None and path.is_dir():
                yield _Saved(path, step)

    def _ranked(self, monitor: str, mode: str, best_from: int) -> list[_Saved]:
        """Return complete candidates that have the metric, best first, the earlier on a tie."""
        candidates = [s for s in self._saved() if s.step >= best_from]
        scored = [(s.score(monitor, mode), s.step, s) for s in candidates]
        known = [(score, step, s) for score, step, s in scored if score is not None]
        return [s for _, _, s in sorted(known, key=lambda item: item[:2])]

    def _retain(self, latest: Path) -> None:
        """Mark the best and remove what the policy does not keep; damaged ones are left alone."""
        best = self._ranked(self.monitor, self.mode, self.best_from)[: self.keep_best]
        if best:
            self._mark(BEST, best[0].path)
        marked = self._marked(BEST)
        if marked is not None and (_step(marked) or 0) < self.best_from:
            (self.directory / BEST).unlink()  # Marked when it still counted.
        complete = [s for s in self._saved() if s.meta is not None]
        newest = sorted(complete, key=lambda s: s.step)[-self.keep_last :]
        keep = {latest, *(s.path for s in best), *(s.path for s in newest)}
        keep |= {path for path in (self._marked(LATEST), self._marked(BEST)) if path}
        for saved in complete:
            every = self.keep_every is not None and saved.step % self.keep_every == 0
            if saved.path not in keep and not every:
                discard(saved.path)

    def _mark(self, label: str, path: Path) -> None:
        try:
            write_text(self.directory / label, f"{path.name}\n")
        except OSError as error:
            raise CheckpointError(
                f"{path} is complete, but {self.directory / label} cannot be written: {error}"
            ) from error

    def _marked(self, label: str) -> Path | None:
        try:
            name = (self.directory / label).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        return self.directory / name if _NAME.fullmatch(name) else None


def read_meta_or_none(path: Path) -> dict[str, Any] | None:
    """Return ``meta.json`` of a checkpoint, None if it cannot be read."""
    try:
        return read_meta(path)
    except CheckpointError:
        return None


def _step(path: Path) -> int | None:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def _first_complete(candidates: list[_Saved], say: Callable[[str], None]) -> Path | None:
    """Return the first one whose content is intact; say what was passed over for it."""
    skipped: list[CheckpointError] = []
    taken: Path | None = None
    for saved in candidates:
        try:
            verify(saved.path, hashes=True)
        except CheckpointError as error:
            skipped.append(error)
        else:
            taken = saved.path
            break
    instead = f"taking {taken.name}" if taken else "no complete checkpoint is left"
    for reason in skipped:
        say(f"skipped checkpoint {reason}; {instead}")
    return taken
