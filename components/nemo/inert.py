"""Checkpoints of a training run, which hold their settings as objects of a configuration library.

Neither the library nor any code of it is needed to read the tensors beside them: every such object
becomes an empty one of ours.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import torch

_PACKAGE = "omegaconf."
_BESIDE = frozenset(
    {"typing.Any", "collections.defaultdict"}
    | {f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "int", "list", "str")}
)
"""Types that its objects refer to."""


class Inert:
    """Stands for an object of another library: takes what it is given and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Self:  # noqa: ANN401
        """Make an empty one."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        pass

    def __setstate__(self, state: object) -> None:
        pass


def settings_made_inert(file: Path) -> AbstractContextManager[None]:
    """Let ``torch.load(weights_only=True)`` pass over the settings in a file.

    Args:
        file: a zip file that torch wrote.

    Returns:
        A context in which names of the configuration library mean :class:`Inert`; any other name
        is refused as ever.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    known = [name for name in names if name.startswith(_PACKAGE) or name in _BESIDE]
    # Nothing but a settings object has a reason to name a type.
    if not any(name.startswith(_PACKAGE) for name in known):
        known = []
    stand_ins: list[Any] = [(type("Inert", (Inert,), {}), name) for name in known]
    allowed: AbstractContextManager[None] = torch.serialization.safe_globals(stand_ins)
    return allowed
