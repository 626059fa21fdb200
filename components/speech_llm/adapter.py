"""The weights of an adapter by the names of a peft file, and the check that all were taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from core.checkpoint.match import indented, match_state
from core.errors import CheckpointError


def peft_state(net: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the weights of a ``PeftModel``'s adapter, by the names of its file.

    Embeddings and the output layer are the base's, even where they are adapted. Left to itself,
    peft would add them whole, and ask the hub whether the base's vocabulary was another size.
    """
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(net, save_embedding_layers=False))


def load_state(net: Any, state: Mapping[str, Tensor]) -> None:  # noqa: ANN401
    """Put weights into the adapter of a ``PeftModel``.

    Args:
        net: the ``PeftModel``.
        state: by the names that ``adapter_model.safetensors`` has.

    Raises:
        CheckpointError: names or shapes differ; all are listed, and nothing is taken.
    """
    from peft import set_peft_model_state_dict

    report = match_state(peft_state(net), state)
    if not report.exact:
        raise CheckpointError(
            "the adapter does not fit the base and its LoRA settings:\n" + indented(report.lines())
        )
    set_peft_model_state_dict(net, dict(state))
