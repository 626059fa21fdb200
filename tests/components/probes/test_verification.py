from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.probes import verification
from components.probes.verification import equal_error_rate, open_set_verification
from core.errors import DataError


def noise(rows: int, dimensions: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


def test_known_rates() -> None:
    assert equal_error_rate(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 0.0
    assert equal_error_rate(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 1.0
    # One of four on each side lies beyond the threshold.
    same, other = torch.tensor([1.0, 4.0, 5.0, 6.0]), torch.tensor([0.0, 2.0, 3.0, 4.5])
    assert equal_error_rate(same, other) == pytest.approx(0.25)
    assert equal_error_rate(torch.zeros(5), torch.zeros(9)) == pytest.approx(0.5)


def test_two_normal_distributions() -> None:
    # Means two deviations apart: the rates cross at Phi(-1).
    same, other = noise(100_000, 1).flatten() + 2.0, noise(100_000, 1, seed=1).flatten()
    assert equal_error_rate(same, other) == pytest.approx(0.1587, abs=0.003)


@pytest.mark.parametrize("rows", [400, 3000])
def test_random_features_tell_nothing(rows: int) -> None:
    result = open_set_verification(noise(rows, 32), torch.arange(rows) % 20)
    assert result.eer == pytest.approx(0.5, abs=0.02)
    assert result.speakers == 20


@pytest.mark.parametrize("rows", [400, 3000])
def test_separated_speakers_are_told_apart_behind_a_common_offset(rows: int) -> None:
    speakers = torch.arange(rows) % 20
    features = noise(20, 32)[speakers] + 0.05 * noise(rows, 32, seed=1) + 100.0
    assert open_set_verification(features, speakers).eer < 0.005


def test_rows_of_one_utterance_are_no_pair() -> None:
    groups = torch.arange(600) // 3
    speakers = groups % 10
    features = noise(200, 16)[groups]  # An utterance is like itself, not like its speaker.
    assert open_set_verification(features, speakers).eer < 0.5
    result = open_set_verification(features, speakers, groups=groups)
    assert result.eer == pytest.approx(0.5, abs=0.03)


def test_pairs_are_limited_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PAIRS", 500)
    features, speakers = noise(300, 8), torch.arange(300) % 3
    result = open_set_verification(features, speakers)
    assert (result.same, result.other) == (500, 500)
    assert open_set_verification(features, speakers) == result


def test_there_must_be_pairs_of_both_kinds() -> None:
    with pytest.raises(DataError, match=r"of 1 speaker\(s\) and 5 rows there are 10 and 0"):
        open_set_verification(noise(5, 3), torch.zeros(5, dtype=torch.int64))
