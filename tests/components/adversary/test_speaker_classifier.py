from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.adversary.speaker_classifier import SpeakerClassifier
from core.contracts import UNMAPPED
from core.errors import ConfigError


def classifier(**settings: float) -> SpeakerClassifier:
    made = SpeakerClassifier(hidden=16, **settings)
    made.setup(input_dim=6, num_speakers=5)
    made.reset(torch.Generator().manual_seed(1))
    return made


def test_it_has_the_form_of_the_guide() -> None:
    made = SpeakerClassifier()
    made.setup(input_dim=1280, num_speakers=500)
    assert sum(p.numel() for p in made.parameters()) == 1280 * 512 + 512 + 512 * 500 + 500
    bound = math.sqrt(6 / (1280 + 512))
    assert float(made.input.weight.detach().abs().max()) == pytest.approx(bound, rel=1e-3)
    assert not made.input.bias.any()
    assert not made.output.bias.any()
    x = torch.randn(3, 1280)
    reference = nn.Sequential(made.input, nn.ReLU(), nn.Dropout(0.3), made.output)
    assert torch.equal(made(x), reference.eval()(x))
    torch.manual_seed(5)
    learning = made(x, learning=True)
    torch.manual_seed(5)
    assert torch.equal(learning, reference.train()(x))


def test_unmapped_rows_count_for_nothing() -> None:
    made, x = classifier(), torch.randn(4, 6)
    speakers = torch.tensor([3, UNMAPPED, 0, UNMAPPED])
    score = made.score(x, speakers)
    alone = made.score(x[[0, 2]], speakers[[0, 2]])
    torch.testing.assert_close(score.total, alone.total)
    assert int(score.count) == int(alone.count) == 2
    assert int(score.hits) == int(alone.hits)
    expected = F.cross_entropy(made(x[[0, 2]]), torch.tensor([3, 0]), reduction="sum")
    torch.testing.assert_close(score.total, expected)


def test_rows_beyond_chance_may_give_no_gradient() -> None:
    made = classifier()
    x = (torch.randn(40, 6, generator=torch.Generator().manual_seed(3)) * 4.0).requires_grad_()
    speakers = torch.arange(40) % 5
    plain, stopped = made.score(x, speakers), made.score(x, speakers, stop_at_chance=True)
    assert torch.equal(plain.total, stopped.total)
    (whole,) = torch.autograd.grad(plain.total, x)
    (part,) = torch.autograd.grad(stopped.total, x)
    guessed = F.cross_entropy(made(x), speakers, reduction="none") >= math.log(5)
    assert 5 < int(guessed.sum()) < 35
    assert not part[guessed].any()
    assert torch.equal(part[~guessed], whole[~guessed])


@pytest.mark.parametrize("rows", [0, 3])
def test_without_a_mapped_row_a_zero_reaches_everything(rows: int) -> None:
    made = classifier(label_smoothing=0.1)
    x = torch.randn(rows, 6, requires_grad=True)
    score = made.score(x, torch.full((rows,), UNMAPPED))
    score.total.backward()
    assert (float(score.total.detach()), int(score.count), int(score.hits)) == (0.0, 0, 0)
    for tensor in (x, *made.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_float32_under_autocast() -> None:
    made = classifier()
    x = torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        logits = made(x.bfloat16())
        assert logits.dtype == torch.float32
    assert torch.equal(logits, made(x.bfloat16().float()))


def test_label_smoothing_spreads_the_target() -> None:
    x, speakers = torch.randn(3, 6), torch.tensor([0, 1, 4])
    smooth = classifier(label_smoothing=0.2).score(x, speakers)
    log_probs = classifier()(x).log_softmax(1)
    right = log_probs[torch.arange(3), speakers]
    expected = -(0.8 * right + 0.2 * log_probs.mean(1)).sum()
    torch.testing.assert_close(smooth.total, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 1\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpeakerClassifier(**settings)  # type: ignore[arg-type]


def test_one_speaker_is_no_task() -> None:
    with pytest.raises(ConfigError, match=r"1 speaker\(s\) cannot be told apart"):
        SpeakerClassifier().setup(input_dim=4, num_speakers=1)
