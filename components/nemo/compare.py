"""How a NeMo configuration differs from a task.

Weights of one shape can belong to different functions: whether what enters the layers is scaled,
which frames a convolution sees, how features are normalised. Only the configuration says so. It
comes from a file, so nothing is expected of its values: what is no plain setting is told as such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.nemo.keys import DEFAULTS, OPTIONS, SHOWN, TRAINING
from components.nemo.settings import Sections

MOST_ITEMS = 8
"""Entries of a setting that is a list."""
MOST_CONTEXTS = 64
"""Attention contexts of one model."""
MOST_SHOWN = 60
"""Characters of a setting in a message."""

_WITHOUT_INPUT_NORM = (2, 7)
"""NeMo's last version whose quantizer certainly projects what it is given as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """Lines on settings that differ.

    Args:
        decisive: they make another function of weights of the same shapes, or may, as nothing can
            be made of what the file has.
        training: they matter in training alone.
        unknown: what the file leaves open.
    """

    decisive: list[str] = field(default_factory=list)
    training: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def model_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model's part of a configuration, which is all of an archive's."""
    model = config.get("model")
    return model if isinstance(model, Mapping) else config


def version_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the NeMo version that wrote an archive; None if the configuration does not say."""
    found = config.get("nemo_version")
    # YAML reads a version without a third part as a number.
    match = (
        re.match(r"(\d{1,4})\.(\d{1,4})", str(found)) if isinstance(found, str | float) else None
    )
    return (int(match[1]), int(match[2])) if match else None


def differing(theirs: Mapping[str, Any], own: Sections) -> Differing:
    """Compare a NeMo configuration with a task's settings, as far as both say something.

    Args:
        theirs: the configuration's model section, interpolations included.
        own: from :func:`components.nemo.settings.settings_of`.

    Settings that shapes show are left out: who compares shapes says more.
    """
    found = Differing()
    for section, values in own.items():
        given = theirs.get(section)
        if isinstance(given, Mapping):
            set_there = {k: _resolved(theirs, given[k]) for k in values if k in given}
            _compare(section, DEFAULTS.get(section, {}) | set_there, values, found)
        elif section in DEFAULTS:
            why = "not in" if section not in theirs else "no settings in"
            found.unknown.append(f"{section}: {why} the file's configuration; not compared")
    return found


def input_norm_differing(theirs: Mapping[str, Any], own: str) -> Differing:
    """Compare what is done to stacked frames before their projection, where NeMo's are told.

    NEST v2 normalises them, NeMo up to 2.7 does not. No setting says which it is: the quantizer of
    v2 has settings that the other does not know, and may be told to weigh what it normalised.

    Args:
        theirs: the configuration's model section.
        own: ``quantizer.input_norm`` of the task.
    """
    found = Differing()
    given = theirs.get("quantizer")
    if not isinstance(given, Mapping):
        return found
    version = version_of(theirs)
    if given.get("learnable_norm") not in (None, False):
        found.decisive.append(
            f"quantizer.learnable_norm: {_shown(given['learnable_norm'])} in the file; a norm with "
            "weights of its own has no counterpart here"
        )
    elif "learnable_norm" in given or "xavier_normal_init" in given:
        _expect_norm("layer_norm", own, found)
    elif version is not None and version <= _WITHOUT_INPUT_NORM:
        _expect_norm("none", own, found)
    elif version is not None or own != "none":
        found.unknown.append(
            "quantizer.input_norm: the file does not say whether it is NEST v2's, which is "
            f"task.quantizer.input_norm=layer_norm; {own} here"
        )
    return found


def _expect_norm(theirs: str, own: str, found: Differing) -> None:
    if theirs != own:
        found.decisive.append(
            f"quantizer.input_norm: {theirs} in the file, {own} here (task.quantizer.input_norm)"
        )


def _compare(section: str, known: dict[str, Any], own: Mapping[str, Any], found: Differing) -> None:
    """Add lines on one section, of which ``known`` is what holds in the file."""
    _choose_context(known, own)
    for key, mine in own.items():
        if key in SHOWN or key not in known:
            continue
        value, expected = known[key], _canonical(key, mine, own, own)
        place = f"{section}.{key}"
        if _open(value):
            found.unknown.append(f"{place}: {_shown(value)} is not resolved here; not compared")
            continue
        other = f"not readable ({type(value).__name__})"
        if _plain(key, value):
            value = _canonical(key, value, known, own)
            if value == expected:
                continue
            other = _shown(value)
        option = f" (task.{OPTIONS[key]})" if key in OPTIONS else ""
        lines = found.training if key in TRAINING else found.decisive
        lines.append(f"{place}: {other} in the file, {_shown(expected)} here{option}")


def _plain(key: str, value: Any) -> bool:  # noqa: ANN401
    """Whether a value has a form that settings have."""
    if not isinstance(value, list):
        return _scalar(value)
    if key == "att_context_size" and 0 < len(value) <= MOST_CONTEXTS and isinstance(value[0], list):
        return all(isinstance(pair, list) and len(pair) == 2 and _scalars(pair) for pair in value)
    return _scalars(value)


def _scalars(values: list[Any]) -> bool:
    return len(values) <= MOST_ITEMS and all(_scalar(value) for value in values)


def _scalar(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, int):
        return value.bit_length() < 64
    return value is None or isinstance(value, float | str)


def _shown(value: Any) -> str:  # noqa: ANN401
    """Return a plain value in few characters, none of which moves a cursor."""
    if not _plain("att_context_size", value):
        return f"a {type(value).__name__}"
    text = value[: MOST_SHOWN + 1] if isinstance(value, str) else str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _canonical(
    key: str,
    value: Any,  # noqa: ANN401
    section: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Any:  # noqa: ANN401
    """Return one form of what can be written in several.

    Args:
        key: of the setting.
        value: a plain one.
        section: that it stands in.
        own: the task's section, for sizes that shapes show to be the same.
    """
    if key == "normalize":
        known = value in ("per_feature", "all_features") or isinstance(value, list)
        return value if known else "NA"
    if key == "preemph":
        return value or 0.0
    if key == "highfreq":
        return value or own["sample_rate"] / 2
    if key == "att_context_size":
        return [-1, -1] if value is None else value
    if key == "att_context_style":
        context = _canonical("att_context_size", section.get("att_context_size"), section, own)
        return "regular" if context == [-1, -1] else value
    if key == "conv_context_size":
        size = own["conv_kernel_size"]
        around = {None: [(size - 1) // 2] * 2, "causal": [size - 1, 0]}
        return value if isinstance(value, list) else around.get(value, value)
    return value


def _choose_context(theirs: dict[str, Any], mine: Mapping[str, Any]) -> None:
    """Of several contexts that a model was trained with, keep this model's if it is one of them."""
    several, wanted = theirs.get("att_context_size"), mine.get("att_context_size")
    if isinstance(several, list) and wanted in several[:MOST_CONTEXTS]:
        theirs["att_context_size"] = wanted


def _open(value: Any) -> bool:  # noqa: ANN401
    """Whether a value is one that NeMo fills in."""
    values = value[:MOST_ITEMS] if isinstance(value, list) else [value]
    return any(isinstance(each, str) and each.startswith(("${", "???")) for each in values)


def _resolved(root: Mapping[str, Any], value: Any, depth: int = 4) -> Any:  # noqa: ANN401
    """Follow ``${model.section.key}`` to what stands there; leave what cannot be followed."""
    if depth == 0 or not (isinstance(value, str) and value.startswith("${") and value[-1] == "}"):
        return value
    node: Any = root
    for step in value[2:-1].removeprefix("model.").split("."):
        if not isinstance(node, Mapping) or step not in node:
            return value
        node = node[step]
    return _resolved(root, node, depth - 1)
