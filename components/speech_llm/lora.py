"""Low-rank adapters on named linear layers of a frozen model (Hu et al., 2021)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from components.speech_llm.packages import quietly, require
from core.errors import ConfigError, suggest
from core.registry import register

PROJECTOR = "projector"
ENCODER = "audio_tower"


@register("adapter", "lora")
class LoRA:
    """Adds ``alpha / rank * B A x`` to the output of linear layers, with B zero at the start.

    Args:
        rank: rows of A and columns of B.
        alpha: numerator of the scale.
        dropout: on the input of A, in training.
        targets: ``projector`` for every linear layer of the projector; otherwise names of linear
            layers, whole or ends of them, such as ``multi_modal_projector.linear_1`` or ``q_proj``.
            Layers of the encoder are never adapted: it runs without gradient.
    """

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.05,
        targets: str | tuple[str, ...] = PROJECTOR,
    ) -> None:
        if rank < 1:
            raise ConfigError(f"lora: rank must be at least 1, found {rank}")
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"lora: dropout must be in [0, 1), found {dropout}")
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = targets

    def names(self, model: nn.Module, *, projector: str) -> list[str]:
        """Return the full names of the linear layers that are adapted.

        Args:
            model: that has them.
            projector: name of its projector, a submodule or itself a linear layer.

        Raises:
            ConfigError: a target names no linear layer.
        """
        linears = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and ENCODER not in name.split(".")
        ]
        if self.targets == PROJECTOR:
            found = [n for n in linears if n == projector or n.startswith(f"{projector}.")]
            if not found:
                raise ConfigError(
                    f"lora: {type(model).__name__} has no linear layer below '{projector}'"
                )
            return found
        wanted = [self.targets] if isinstance(self.targets, str) else self.targets
        chosen: list[str] = []
        for target in wanted:
            matches = [n for n in linears if n == target or n.endswith(f".{target}")]
            if not matches:
                near = suggest(target, {*linears, *_ends(linears), PROJECTOR}, noun="targets")
                raise ConfigError(
                    f"lora: target '{target}' is no linear layer of {type(model).__name__} outside "
                    f"its encoder; {near}"
                )
            chosen += matches
        return list(dict.fromkeys(chosen))

    def attach(self, model: nn.Module, *, projector: str) -> Any:  # noqa: ANN401
        """Freeze a model, add the adapters and return the ``PeftModel`` around it.

        Adapters are float32, whatever the model. Raises ConfigError as :meth:`names` does.
        """
        require("peft")
        with quietly():  # It imports bitsandbytes.
            from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            bias="none",
            task_type="CAUSAL_LM",
            target_modules=self.names(model, projector=projector),
        )
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that warns of its own end.
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(model, settings)


def _ends(names: Sequence[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}
