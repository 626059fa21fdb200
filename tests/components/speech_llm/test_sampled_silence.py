"""What is left out of a chunk's silence must not be missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.features.whisper import WhisperFeatures
from components.speech_llm.base import load_base
from components.speech_llm.sampled_silence import SampledSilence

HEARD = 16
REQUEST = [1, 3, 25, *([24] * 375), 4, 70, 34]
ANSWER = [100, 101, 102, 2]


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    torch.manual_seed(0)
    found = load_base(str(tiny), dtype="float32").model
    for name, parameter in found.named_parameters():
        if "proj" in name:  # As drawn, attention is all but uniform and would hide a wrong weight.
            parameter.data.mul_(4)
    return found


@pytest.fixture(scope="module")
def features() -> Tensor:
    """(1, 128, 3000) of a second of noise and 29 of silence."""
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(2)) * 0.1
    return WhisperFeatures()(noise)


def whole(model: Any, features: Tensor) -> Tensor:
    ids = torch.tensor([REQUEST + ANSWER])
    labels = torch.tensor([[-100] * len(REQUEST) + ANSWER])
    loss: Tensor = model(input_ids=ids, input_features=features, labels=labels).loss
    return loss


def sampled(model: Any, features: Tensor, *, drawn: int, seed: int) -> Tensor:
    silence = SampledSilence(heard=HEARD, drawn=drawn)
    generator = torch.Generator().manual_seed(seed)
    short = features[:, :, : silence.frames]
    loss = silence.loss(model, short, [ANSWER], REQUEST, generator=generator)
    return loss


@torch.no_grad()
def test_all_rows_of_the_silence_give_the_loss_of_the_whole_chunk(
    model: Any, features: Tensor
) -> None:
    # The chunk's last row ends in the zeros of the convolutions, which the sampled one does not.
    found = sampled(model, features, drawn=375 - HEARD, seed=0)
    assert float(found) == pytest.approx(float(whole(model, features)), rel=1e-4)


@torch.no_grad()
def test_a_few_rows_stand_for_all_of_them(model: Any, features: Tensor) -> None:
    expected = float(whole(model, features))
    found = [float(sampled(model, features, drawn=16, seed=seed)) for seed in range(8)]
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.01)
    unweighted = SampledSilence(heard=HEARD, rows=HEARD + 16, drawn=16)
    assert unweighted.log_share() == 0


def test_rows_are_drawn_from_the_whole_silence_each_at_its_place() -> None:
    silence = SampledSilence(heard=HEARD, drawn=16)
    rows = silence.draw(torch.Generator().manual_seed(0))
    assert rows[:HEARD].tolist() == list(range(HEARD))
    later = rows[HEARD:].tolist()
    assert later == sorted(set(later))
    stretch = (375 - HEARD) / 16
    assert [int((row - HEARD + 0.5) / stretch) for row in later] == list(range(16))


def test_every_weight_but_the_positions_gets_a_gradient(model: Any, features: Tensor) -> None:
    model.requires_grad_(True)
    sampled(model, features, drawn=16, seed=0).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    assert without == set()
