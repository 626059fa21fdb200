"""Warm-up, stable rate, decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from components.schedulers.corners import Corners, Shape
from components.schedulers.ramp import check_share, check_warmup, known_total
from core.contracts import Extent
from core.errors import ConfigError, suggest
from core.registry import register

OnResume = Literal["keep", "rebase", "replan"]


@register("scheduler", "wsd")
class WSD:
    """Rise linearly to the base rate, hold it, and decay over the last share of the run.

    The schedule of MiniCPM (Hu et al. 2024, arXiv 2404.06395). The peak factor is 1; the factor is
    ``floor`` at the last step and after it. With q rising from 0 to 1 over the decay, the factor is
    ``floor + (1 - floor) * f(q)``:

        linear          1 - q                cosine  (1 + cos(pi q)) / 2
        one_minus_sqrt  1 - sqrt(q)          square  1 - q**2

    ``one_minus_sqrt`` is the shape that Hägele et al. 2024 (arXiv 2405.18392) find best. A run that
    ends within the warm-up never decays.

    Where a phase ends is laid out once, when a run starts, and stored with its checkpoints. A
    resumed run keeps it, whatever a grown manifest or another setting would make of it now; what
    differs is told. Where the same batch of rows is divided otherwise, as 8 rows x 8 micro-batches
    instead of 16 x 4, nothing differs; another number of rows a step is refused.

    The stable phase can end at any checkpoint: ``core.run FILE --branch-from RUN
    scheduler.decay_now=2000`` starts a run that goes on from the last checkpoint of another and
    decays at once; ``--resume RUN`` with the same setting does it within the run.

    Args:
        warmup_steps: steps until the peak; 0 for none.
        wait_steps: steps before the warm-up, with factor 0: those in which only the classifiers of
            an adversary learn, which have a rate of their own.
        decay_share: share of the steps after the warm-up that decays, rounded up to whole steps.
        shape: of the decay.
        floor: factor at the end, as a share of the peak.
        decay_now: begin to decay at the step that the run goes on from, and end after so many.
        on_resume: ``keep`` the stored corners; ``rebase`` what is left of them to another number of
            rows a step, so that the schedule stays one of rows; ``replan`` to the configuration's.
    """

    def __init__(
        self,
        *,
        warmup_steps: int = 0,
        wait_steps: int = 0,
        decay_share: float = 0.1,
        shape: Shape = "one_minus_sqrt",
        floor: float = 0.0,
        decay_now: int | None = None,
        on_resume: OnResume = "keep",
    ) -> None:
        check_warmup("wsd", warmup_steps)
        if wait_steps < 0:
            raise ConfigError(f"scheduler/wsd: wait_steps must be at least 0, but is {wait_steps}")
        check_share("wsd", "decay_share", decay_share)
        check_share("wsd", "floor", floor)
        if shape not in get_args(Shape):
            hint = suggest(shape, get_args(Shape), noun="shapes")
            raise ConfigError(f"scheduler/wsd: there is no shape {shape!r}; {hint}")
        if decay_now is not None and decay_now < 1:
            raise ConfigError(f"scheduler/wsd: decay_now must be at least 1, but is {decay_now}")
        if on_resume not in get_args(OnResume):
            hint = suggest(on_resume, get_args(OnResume), noun="ways")
            raise ConfigError(f"scheduler/wsd: there is no on_resume {on_resume!r}; {hint}")
        self.warmup_steps = warmup_steps
        self.wait_steps = wait_steps
        self.decay_share = decay_share
        self.shape: Shape = shape
        self.floor = floor
        self.decay_now = decay_now
        self.on_resume: OnResume = on_resume
        self._corners: Corners | None = None
        self._kept = False

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``.

        Args:
            step: of the optimiser.
            total_steps: length of the run; not looked at once a run has planned the schedule.

        Raises:
            ConfigError: the end is not known, or ``decay_now`` has nothing to decay from.
        """
        corners = self._corners or self._layout(Extent(total_steps=total_steps))
        if self.decay_now is not None and not corners.branched:
            raise ConfigError(
                f"scheduler.decay_now={self.decay_now} decays from a checkpoint, and this run "
                "starts anew; add --branch-from RUN_OR_CHECKPOINT, or --resume RUN to decay there"
            )
        return corners.factor(step)

    def decay_steps(self, total_steps: int) -> int:
        """Return how many of the last steps decay."""
        after_warmup = max(total_steps - self.wait_steps - self.warmup_steps, 0)
        # 0.1 * 30 is 3.0000000000000004, which must not become 4.
        return math.ceil(round(self.decay_share * after_warmup, 6))

    # ------------------------------------------------------------------------- over restarts

    @property
    def total_steps(self) -> int | None:
        """Last step of the planned schedule."""
        return self._corners.total if self._corners else None

    @property
    def binding(self) -> bool:
        """Whether training ends with the schedule, because it is not the configuration's."""
        return self._kept

    def plan(self, extent: Extent) -> None:
        """Lay the schedule out for a run that starts. Raises ConfigError if its end is unknown."""
        self._corners = self._layout(extent)

    def state_dict(self) -> dict[str, Any]:
        """Return the corners."""
        return self._corners.as_dict() if self._corners else {}

    def resume(self, state: Mapping[str, Any], *, step: int) -> list[str]:
        """Take the stored corners at ``step``; return lines on what the configuration says else.

        Raises:
            ConfigError: the run takes another number of rows a step; or it is to decay, but is
                still warming up or decays already.
        """
        configured = self._corners
        assert configured is not None  # plan() comes first
        if not state:
            return ["schedule: the checkpoint holds none; it is laid out anew"]
        stored = Corners(**state)
        if self.on_resume == "replan" and not stored.branched:
            lines = [f"schedule: replanned: {text}" for text in stored.differences(configured)]
            stored = configured
        else:
            stored, lines = self._keep(stored, configured, step)
        if self.decay_now is not None and not stored.branched:
            stored = stored.branch(step, self.decay_now)
            lines = [f"schedule: decays from step {step} to step {stored.total}"]
        self._corners = stored
        self._kept = not stored.same_phases(configured)
        return lines

    def _keep(self, stored: Corners, configured: Corners, step: int) -> tuple[Corners, list[str]]:
        rows, wanted = stored.rows_per_step, configured.rows_per_step
        lines = []
        if rows is not None and wanted is not None and rows != wanted:
            if self.on_resume != "rebase":
                raise ConfigError(
                    f"this run's schedule counts steps of {rows} rows, and a step now has {wanted} "
                    "(batch size x trainer.accumulation x ranks): each would mean other progress. "
                    f"Set them so that their product is {rows}, or add scheduler.on_resume=rebase "
                    "to keep the schedule in rows, or scheduler.on_resume=replan to lay it out anew"
                )
            before, stored = stored, stored.rebased(step, wanted)
            lines.append(
                f"schedule: rebased at step {step} from {rows} to {wanted} rows a step: decay "
                f"begins at step {stored.decay_from} ({before.decay_from}) and ends at "
                f"{stored.total} ({before.total})"
            )
        if stored.branched:
            if self.decay_now is not None and self.decay_now != stored.total - stored.decay_from:
                raise ConfigError(
                    f"scheduler.decay_now={self.decay_now}: this run decays since step "
                    f"{stored.decay_from}, over {stored.total - stored.decay_from} steps; another "
                    "decay branches from a checkpoint before it"
                )
            return stored, lines
        lines += [
            f"schedule: kept from the start of the run: {text} (scheduler.on_resume=replan takes "
            "the configuration's)"
            for text in (stored.differences(configured) if not lines else ())
        ]
        return stored, lines

    def _layout(self, extent: Extent) -> Corners:
        total = known_total("wsd", extent.total_steps)
        warmup = self.wait_steps + self.warmup_steps
        return Corners(
            warmup_from=self.wait_steps,
            warmup=warmup,
            decay_from=max(warmup, total - self.decay_steps(total)),
            total=total,
            shape=self.shape,
            floor=self.floor,
            rows_per_step=extent.rows_per_step,
        )
