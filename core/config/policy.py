"""Which Python names a saved configuration may refer to."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import PurePath
from types import FunctionType
from typing import Any

import fiddle as fdl
from fiddle.experimental import serialization

from core import registry
from core.config.hints import is_dtype, qualified_name

FIRST_PARTY = ("core", "components", "experiments", "kernels")
PLUGIN_GROUP = "sori.components"
_FRAMEWORK = ("core", "components", "kernels")
_CONTAINERS = (dict, list, tuple, set, frozenset, bytes, slice, type(None))
_TORCH_BASES = (
    "torch.nn.modules.module.Module",
    "torch.optim.optimizer.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
)


class Allowlist(serialization.PyrefPolicy):
    """Allow classes and functions that our packages and registered plugins define themselves.

    A name that merely is reachable through an allowed module, such as a standard library function
    that it imports, is refused, and so is a function of the framework that is not a registered
    component: building a configuration calls what it refers to. Of torch only dtypes, modules,
    optimisers and schedulers are allowed, of Fiddle its configuration classes, of Python its
    containers and paths.

    Args:
        extra: further top-level packages, by the caller's own decision.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        plugins = {point.module for point in entry_points(group=PLUGIN_GROUP)}
        names = (*FIRST_PARTY, *plugins, *extra)
        self.packages = frozenset(name.partition(".")[0] for name in names)

    def allows_import(self, module: str, symbol: str) -> bool:
        """Return whether a module may be imported to look a name up."""
        root = module.partition(".")[0]
        if root == "builtins":
            return symbol in {cls.__name__ for cls in _CONTAINERS}
        if root == "pathlib":
            return symbol in ("Path", "PosixPath", "WindowsPath")
        return root in self.packages or root in ("fiddle", "torch")

    def allows_value(self, value: Any) -> bool:  # noqa: ANN401
        """Return whether what was found under a name may be used."""
        if isinstance(value, enum.Enum):
            value = type(value)
        root = str(getattr(value, "__module__", "")).partition(".")[0]
        if root in self.packages:
            return isinstance(value, type) or self._is_configurable_function(value, root)
        if not isinstance(value, type):
            return is_dtype(type(value))
        if root == "fiddle":
            allowed = (fdl.Buildable, fdl.BuildableTraverserMetadata, type(fdl.NO_VALUE))
            return issubclass(value, allowed)
        if root == "torch":
            return any(qualified_name(base) in _TORCH_BASES for base in value.__mro__)
        return value in _CONTAINERS or issubclass(value, PurePath)

    @staticmethod
    def _is_configurable_function(value: Any, root: str) -> bool:  # noqa: ANN401
        if not isinstance(value, FunctionType):
            return False
        return root not in _FRAMEWORK or registry.identify(value) is not None

    def refusal(self, value: Any) -> str:  # noqa: ANN401
        """Say why a class or function may not be used, and what to do."""
        name = qualified_name(value)
        if isinstance(value, FunctionType) and name.partition(".")[0] in _FRAMEWORK:
            return f"{name} is not a registered component; register it, or configure a class"
        return (
            f"{name} is outside the packages that a saved configuration may refer to; register "
            f"its package under the entry-point group {PLUGIN_GROUP}"
        )

    def __str__(self) -> str:
        return f"packages {', '.join(sorted(self.packages))}, and parts of fiddle and torch"
