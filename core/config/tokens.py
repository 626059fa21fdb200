"""Command-line tokens by what they are: knobs, presets, overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.config.load import ExperimentFile
from core.config.paths import split_assignment
from core.errors import closest, suggest


@dataclass(kw_only=True)
class Tokens:
    """Tokens of one command line, in order, with what is wrong with the others.

    Args:
        knobs: text by knob.
        presets: names.
        overrides: pairs of path and text.
        problems: messages.
    """

    knobs: dict[str, str] = field(default_factory=dict)
    presets: list[str] = field(default_factory=list)
    overrides: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def sort_tokens(tokens: Sequence[str], file: ExperimentFile | None) -> Tokens:
    """Sort tokens; without a ``file`` (a saved configuration) only overrides are taken."""
    found = Tokens()
    for token in tokens:
        if token.startswith("+"):
            _sort_preset(token, file, found)
            continue
        assignment = split_assignment(token)
        if assignment is None:
            presets = file.presets if file else {}
            near = closest(token, presets, limit=1)
            hint = f"; did you mean '+{near[0]}'?" if near else ""
            found.problems.append(f"{token}: expected knob=value, +preset or path=value{hint}")
            continue
        key, text = assignment
        if file is None or key not in file.knobs:
            found.overrides.append((key, text))
        elif key in found.knobs:
            found.problems.append(f"{token}: knob '{key}' is given twice")
        else:
            found.knobs[key] = text
    return found


def _sort_preset(token: str, file: ExperimentFile | None, found: Tokens) -> None:
    name = token[1:]
    if file is None:
        found.problems.append(f"{token}: a saved configuration takes no presets, only path=value")
    elif name not in file.presets:
        hint = suggest(name, file.presets, noun="presets")
        found.problems.append(f"{token}: no such preset for {file.module}; {hint}")
    elif name in found.presets:
        found.problems.append(f"{token}: preset '{name}' is given twice")
    else:
        found.presets.append(name)
