"""What happens around training steps, as small objects with ordered hooks and a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.train.loop import Loop


class Callback:
    """Base of all callbacks (kind ``callback``); every hook does nothing unless overridden.

    Hooks run in ascending ``priority``, on every rank. What a callback must remember over a
    restart it returns from :meth:`state_dict`.
    """

    priority: int = 50

    def on_start(self, loop: Loop) -> None:
        """Model, optimiser and data are ready and, on resume, restored; no step has been taken."""

    def on_step_end(self, loop: Loop) -> None:
        """An optimiser step was taken; ``loop.progress.step`` counts it."""

    def on_validation_end(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        """Validation ran after step ``loop.progress.step``; metrics are the same on all ranks."""

    def on_exception(self, loop: Loop, error: BaseException) -> None:
        """Training is about to end with ``error``."""

    def on_end(self, loop: Loop) -> None:
        """Training ended: complete, stopped by a signal, or after :meth:`on_exception`."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: JSON-serialisable values or tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
