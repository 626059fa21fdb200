"""Parameter groups: what decays, and what learns at another rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from core.errors import ConfigError, suggest

Decay = Literal["matrices", "all"]

# Other normalisation layers have vectors only, which the number of dimensions tells.
_WITHOUT_DECAY = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    """A trainable parameter with every name it goes by and whether its owners rule out decay."""

    value: nn.Parameter
    names: tuple[str, ...]
    plain: bool


def parameter_groups(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    no_decay: Sequence[str] = (),
    lr_scale: Mapping[str, float] | None = None,
    decay: Decay = "matrices",
) -> list[dict[str, Any]]:
    """Divide the trainable parameters of ``module`` into groups for a torch optimiser.

    Biases, parameters of normalisation layers, embeddings and everything with fewer than two
    dimensions do not decay, since shrinking them does not regularise the function they are in.
    Frozen parameters are left out. A parameter shared by several modules is taken once; it goes
    without decay if any of its owners or names says so.

    Args:
        module: with its final parameters.
        lr: base rate.
        weight_decay: of the groups that decay.
        no_decay: glob patterns of further parameter names without decay, such as ``*.pos_emb``.
        lr_scale: glob pattern of parameter names to factor of ``lr``.
        decay: ``all`` lets every trainable parameter decay that ``no_decay`` does not name.

    Returns:
        Groups with ``params`` as (name, parameter) pairs, ``lr``, ``weight_decay`` and ``name``,
        which is ``decay`` or ``no_decay``, with ``@PATTERN`` appended for a scaled group. Groups
        and parameters keep the order of ``module.named_parameters()``.

    Raises:
        ConfigError: nothing is trainable; a pattern matches no trainable parameter; two patterns of
            ``lr_scale`` match the same one; a factor is not positive.
    """
    scales = dict(lr_scale or {})
    parameters = _trainable(module)
    if not parameters:
        raise ConfigError(
            f"{type(module).__name__} has no trainable parameters: all are frozen, or setup() was "
            "not called before the optimizer was built"
        )
    frozen = [name for name, value in module.named_parameters() if not value.requires_grad]
    for option, patterns in (("no_decay", no_decay), ("lr_scale", scales)):
        _check_patterns(option, patterns, parameters, frozen)
    for pattern, scale in scales.items():
        if not scale > 0.0:
            raise ConfigError(
                f"optimizer lr_scale[{pattern!r}] must be positive, but is {scale}; to keep "
                "parameters as they are, freeze them"
            )
    groups: dict[str, dict[str, Any]] = {}
    for parameter in parameters:
        scaled = _scale_pattern(parameter, scales)
        plain = parameter.plain and decay == "matrices"
        decays = not plain and not any(_matches(parameter, glob) for glob in no_decay)
        name = ("decay" if decays else "no_decay") + (f"@{scaled}" if scaled else "")
        group = groups.setdefault(
            name,
            {
                "params": [],
                "name": name,
                "lr": lr * scales[scaled] if scaled else lr,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append((parameter.names[0], parameter.value))
    return list(groups.values())


def _trainable(module: nn.Module) -> list[_Parameter]:
    values: dict[int, nn.Parameter] = {}
    names: dict[int, list[str]] = {}
    plain: dict[int, bool] = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for own_name, value in owner.named_parameters(recurse=False, remove_duplicate=False):
            key = id(value)
            values[key] = value
            names.setdefault(key, []).append(f"{prefix}.{own_name}" if prefix else own_name)
            rule = isinstance(owner, _WITHOUT_DECAY) or "bias" in own_name or value.ndim < 2
            plain[key] = plain.get(key, False) or rule
    return [
        _Parameter(value=value, names=tuple(names[key]), plain=plain[key])
        for key, value in values.items()
        if value.requires_grad
    ]


def _matches(parameter: _Parameter, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in parameter.names)


def _check_patterns(
    option: str, patterns: Iterable[str], parameters: Sequence[_Parameter], frozen: Sequence[str]
) -> None:
    for pattern in patterns:
        if any(_matches(parameter, pattern) for parameter in parameters):
            continue
        still = [name for name in frozen if fnmatchcase(name, pattern)]
        if still:
            reason = f"matches only frozen parameters, such as '{still[0]}'"
        else:
            names = [name for parameter in parameters for name in parameter.names]
            reason = f"matches no parameter; {suggest(pattern, names, noun='parameter names')}"
        raise ConfigError(f"optimizer {option}: the pattern '{pattern}' {reason}")


def _scale_pattern(parameter: _Parameter, scales: Mapping[str, float]) -> str | None:
    found = [pattern for pattern in scales if _matches(parameter, pattern)]
    if len(found) > 1:
        listed = " and ".join(f"'{pattern}'" for pattern in found)
        raise ConfigError(
            f"optimizer lr_scale: the parameter '{parameter.names[0]}' is matched by {listed}; "
            "each parameter must have one rate"
        )
    return found[0] if found else None
