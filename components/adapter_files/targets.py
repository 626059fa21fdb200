"""Whether a file has tensors for every layer that its settings say it adapts, and for no other."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from components.adapter_files.names import before, today
from core.errors import CheckpointError

EVERY_LINEAR = "all-linear"
"""Stands in settings for every linear layer but the output layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Which layers a peft folder adapts, by its settings.

    Args:
        modules: regular expression of whole names, or names and ends of names.
        exclude: the same, of layers that are left out.
        layers: numbers of layers, where ``modules`` are names; None for all.
        pattern: names of the lists that are numbered; empty for any.
    """

    modules: str | tuple[str, ...]
    exclude: str | tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    pattern: tuple[str, ...] = ()

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Targets:
        """Take the settings of ``adapter_config.json``. Raises ValueError and TypeError."""
        layers = settings.get("layers_to_transform")
        pattern = settings.get("layers_pattern") or ()
        return cls(
            modules=_names(settings.get("target_modules") or ()),
            exclude=_names(settings.get("exclude_modules") or ()),
            layers=None if layers is None or layers == [] else _numbers(layers),
            pattern=(pattern,) if isinstance(pattern, str) else tuple(pattern),
        )

    def adapt(self, name: str) -> bool:
        """Return whether a layer is adapted, by today's name or that of older libraries."""
        forms = (name, before(name))
        if self.exclude and any(_matches(self.exclude, form) for form in forms):
            return False
        return any(self._match(form) for form in forms)

    def unmatched(self, names: Collection[str]) -> list[str]:
        """Return which of the settings' names, or the expression, match none of the layers."""
        each = [self.modules] if isinstance(self.modules, str) else list(self.modules)
        forms = [form for name in names for form in (name, before(name))]
        return [m for m in each if not any(_matches(_one(m, self.modules), f) for f in forms)]

    def _match(self, name: str) -> bool:
        if not _matches(self.modules, name):
            return False
        if self.layers is None or isinstance(self.modules, str) or name in self.modules:
            return True
        place = "|".join(self.pattern) or r"[^.]*"
        found = re.match(rf"(?:^|.*?\.)(?:{place})\.(\d+)\.", name)
        return found is not None and int(found[1]) in self.layers


def require_whole(
    targets: Targets, adapted: Sequence[str], base: nn.Module, *, source: str
) -> None:
    """Compare what settings say is adapted with what there are tensors for.

    Args:
        targets: of the settings.
        adapted: names of the layers that there are tensors for.
        base: that they are layers of, whether adapters are on it already or not.
        source: for the message.

    Raises:
        CheckpointError: a layer has no tensors, or tensors have a layer that is not adapted.
    """
    linears = _linears(base)
    wanted = [name for name in linears if targets.adapt(name)]
    absent = [name for name in wanted if name not in adapted]
    more = [name for name in adapted if name in linears and name not in wanted]
    problems = [f"no tensors for {name}" for name in absent]
    problems += [f"tensors for {name}, which target_modules does not name" for name in more]
    problems += [
        f"target_modules names {name}, which is no layer of the base"
        for name in targets.unmatched(linears)
    ]
    if problems:
        raise CheckpointError(
            f"{source} is not what its settings say, and would compute something else: "
            f"{'; '.join(problems)}"
        )


def _linears(base: nn.Module) -> list[str]:
    found = (n for n, m in base.named_modules() if isinstance(m, nn.Linear) and ".lora_" not in n)
    return [name.removesuffix(".base_layer") for name in found]


def _matches(modules: str | tuple[str, ...], name: str) -> bool:
    if modules == EVERY_LINEAR:
        return today(name) != "lm_head"
    if isinstance(modules, str):
        return re.fullmatch(modules, name) is not None
    return any(name == module or name.endswith(f".{module}") for module in modules)


def _one(module: str, modules: str | tuple[str, ...]) -> str | tuple[str, ...]:
    return module if isinstance(modules, str) else (module,)


def _names(value: Any) -> str | tuple[str, ...]:  # noqa: ANN401
    if isinstance(value, str):
        re.compile(value)
        return value
    if not all(isinstance(each, str) for each in value):
        raise ValueError(f"{value} are no names")
    return tuple(value)


def _numbers(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    return (value,) if isinstance(value, int) else tuple(int(each) for each in value)
