"""Typed errors, each with its own exit status, and nearest-name suggestions.

Every refusal says what was wrong, where the value was set, what was expected and, where a name was
mistyped, which name is nearest. Command line tools turn a :class:`SoriError` into one printed
message and its ``exit_code``; anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SoriError(Exception):
    """A refusal that a user can act on. ``exit_code`` is the status of the command that met it."""

    exit_code = 1


class ConfigError(SoriError):
    """An experiment, knob, preset or override is not valid; nothing has been built."""

    exit_code = 2


class RegistryError(SoriError):
    """A component is unknown, registered twice, or its module cannot be imported."""

    exit_code = 3


class DataError(SoriError):
    """A manifest, an audio file or a transcript cannot be used."""

    exit_code = 4


class CheckpointError(SoriError):
    """A checkpoint is missing, damaged, or of another architecture."""

    exit_code = 5


class RunDirError(SoriError):
    """A run directory cannot be written, or another process is writing it."""

    exit_code = 6


class TrainingError(SoriError):
    """Training cannot go on: non-finite losses, out of memory, a lost rank."""

    exit_code = 7


class ConfigErrors(ConfigError):  # noqa: N818 - several errors in one
    """Several configuration problems reported at once.

    Args:
        problems: one message each, already complete in themselves.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        body = "\n".join(f"  {number}. {text}" for number, text in enumerate(self.problems, 1))
        super().__init__(f"{len(self.problems)} {noun} in the configuration:\n{body}")


def closest(name: str, candidates: Iterable[str], *, limit: int = 3) -> list[str]:
    """Return up to ``limit`` of ``candidates`` that read like ``name``, nearest first."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), lowered, n=limit, cutoff=0.5)
    return [lowered[match] for match in matches]


def suggest(name: str, candidates: Iterable[str], *, noun: str = "names") -> str:
    """Say which name was probably meant, or list what there is when nothing is near.

    Returns a sentence such as ``did you mean 'dropout'?`` or ``valid names: 'a', 'b'``, for use at
    the end of an error message.
    """
    known = sorted(set(candidates))
    near = closest(name, known)
    if near:
        return "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    if not known:
        return f"there are no {noun} here"
    shown = ", ".join(f"'{candidate}'" for candidate in known[:20])
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"valid {noun}: {shown}{more}"
