"""Hooks that make a module's state its trained weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def keep_trained_only(module: nn.Module) -> None:
    """Leave frozen weights out of the state of a module, and do not miss them when it is loaded.

    A checkpoint is then as small as what was trained; strict loading still finds every trained
    weight that is missing, and every name that is too many.
    """
    module.register_state_dict_post_hook(_drop_frozen)
    module.register_load_state_dict_post_hook(_forgive_frozen)


def _drop_frozen(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]
) -> None:
    trained = {f"{prefix}{name}" for name, p in module.named_parameters() if p.requires_grad}
    for name in [name for name in state if name.startswith(prefix) and name not in trained]:
        del state[name]


def _forgive_frozen(module: nn.Module, incompatible: Any) -> None:  # noqa: ANN401
    frozen = tuple(name for name, p in module.named_parameters() if not p.requires_grad)
    frozen += tuple(name for name, _ in module.named_buffers())
    if frozen:
        missing = incompatible.missing_keys
        missing[:] = [name for name in missing if not name.endswith(frozen)]
