"""Knobs that environment variables may set too, for experiments that scripts already drive so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__sori_environment__"


def from_environment(*variables: str) -> Callable[[F], F]:
    """Let variables set the knobs of an ``experiment`` function, as ``LR`` does its knob ``lr``.

    They are read once, when the experiment is composed, and are values of knobs from then on: typed
    by the knob's annotation, saved with the run, part of its digest, and said in its header. A knob
    on the command line wins. A variable that is empty counts as not set.

    Args:
        variables: names in capitals; each is that of a knob.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, variables)
        return function

    return mark


def variables_of(function: Callable[..., Any]) -> Mapping[str, str]:
    """Return the variables that set a function's knobs, each with its knob."""
    names: tuple[str, ...] = getattr(function, _MARK, ())
    return {name: name.lower() for name in names}


def read(
    variables: Mapping[str, str], environment: Mapping[str, str], given: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return the text of each knob that the environment sets, and lines for the run's header.

    Args:
        variables: what :func:`variables_of` returned.
        environment: of the process.
        given: text of the knobs on the command line.
    """
    texts: dict[str, str] = {}
    lines: list[str] = []
    for variable, knob in variables.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        if knob in given:
            lines.append(f"{variable}={text} in the environment is not used: {knob}={given[knob]}")
        else:
            texts[knob] = text
            lines.append(f"{variable}={text} from the environment")
    return texts, lines
