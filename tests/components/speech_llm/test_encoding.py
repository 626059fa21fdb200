from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.speech_llm.encoding import FrozenEncoder
from tests.components.speech_llm.conftest import CHUNKS, TEXTS, Maker


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_stored_rows_give_the_loss_of_features(
    tiny: Path, make: Maker, features: Tensor, quantization: str
) -> None:
    model = make(quantization=quantization, dtype="bf16")
    encoder = FrozenEncoder(base=str(tiny), quantization=quantization, dtype="bf16")
    assert encoder.width == 256
    stored = torch.cat([encoder(features[:1]), encoder(features[1:].bfloat16())])
    live = model.encode(features)
    assert torch.equal(stored, live)
    assert stored.dtype == torch.bfloat16
    with torch.no_grad():
        losses = [model.loss(rows, CHUNKS, TEXTS, "ko")[0] for rows in (stored, live)]
    assert torch.equal(*losses)


def test_the_language_model_is_not_kept(tiny: Path) -> None:
    encoder = FrozenEncoder(base=str(tiny), quantization="none")
    assert not hasattr(encoder._model.model, "language_model")
