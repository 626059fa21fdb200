from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.probes.classification import ProbeResult, train_probe
from components.probes.comparison import share_removed
from components.probes.fitting import Kind
from core.errors import DataError


def noise(rows: int, dimensions: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


def contains(interval: tuple[float, float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_noise_tells_nothing(kind: Kind) -> None:
    labels = torch.arange(1500) % 5
    result = train_probe(noise(1500, 20), labels, kind=kind)
    assert contains(result.interval, 0.2)
    assert (result.chance, result.classes, result.tested) == (0.2, 5, 300)
    assert abs(result.selectivity) < 0.08
    assert len(result.top1) == len(result.balanced) == len(result.control) == 3


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_what_can_be_separated_is_found(kind: Kind) -> None:
    labels = torch.arange(1200) % 4
    features = noise(1200, 12) * 0.2
    features[torch.arange(1200), labels] += 3.0
    result = train_probe(features * 1e4 + 77.0, labels, kind=kind)  # The scale does not matter.
    assert result.top1 == (1.0, 1.0, 1.0)
    assert result.balanced == (1.0, 1.0, 1.0)
    assert contains((0.1, 0.4), sum(result.control) / 3), "labels without a meaning are not"
    assert result.selectivity > 0.6


def test_only_the_mlp_finds_what_is_not_linear() -> None:
    signs = (noise(3000, 2, seed=1) > 0).long()
    labels = signs[:, 0] ^ signs[:, 1]
    features = torch.cat([(2.0 * signs - 1.0), noise(3000, 6)], dim=1)
    features[:, :2] += 0.2 * noise(3000, 2, seed=2)
    linear, mlp = (train_probe(features, labels, kind=kind) for kind in ("linear", "mlp"))
    assert linear.accuracy == pytest.approx(0.5, abs=0.06)
    assert mlp.accuracy > 0.97


def test_an_erased_direction_hides_from_the_linear_probe_alone() -> None:
    # Speakers differ in mean and in variance; erasing the means leaves the variances.
    labels = torch.arange(3000) % 2
    features = noise(3000, 8)
    features[labels == 1] *= 3.0
    leaky = features.clone()
    leaky[:, 0] += 6.0 * labels
    before = {kind: train_probe(leaky, labels, kind=kind) for kind in ("linear", "mlp")}
    after = {kind: train_probe(features, labels, kind=kind) for kind in ("linear", "mlp")}
    assert before["linear"].accuracy > 0.9
    assert after["linear"].accuracy < 0.6
    assert after["mlp"].accuracy > 0.95
    assert share_removed(before["linear"], after["linear"]) > 0.75
    assert share_removed(before["mlp"], after["mlp"]) < 0.1


def test_rows_of_one_utterance_do_not_give_it_away() -> None:
    # Each utterance has a place of its own, and its label is drawn at random.
    places = noise(200, 16, seed=3) * 5.0
    groups = torch.arange(1000) % 200
    labels = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(4))[groups]
    features = places[groups] + 0.01 * noise(1000, 16)
    by_row = train_probe(features, labels, kind="mlp")
    by_utterance = train_probe(features, labels, groups=groups, kind="mlp")
    assert by_row.accuracy > 0.9
    assert by_utterance.accuracy < 0.45
    assert by_utterance.tested == pytest.approx(40, abs=6)


def test_the_majority_is_no_merit() -> None:
    labels = (torch.arange(2000) % 10 == 0).long() * 7 + 3  # Any numbers.
    result = train_probe(noise(2000, 10), labels)
    assert result.majority == pytest.approx(0.9, abs=0.01)
    assert result.accuracy == pytest.approx(0.9, abs=0.02)
    assert sum(result.balanced) / 3 == pytest.approx(0.5, abs=0.02)


def test_it_depends_on_its_arguments_alone() -> None:
    labels = torch.arange(300) % 3
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_probe(noise(300, 5), labels, kind="mlp")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert train_probe(noise(300, 5), labels, kind="mlp") == first


def test_constant_features_are_no_error() -> None:
    result = train_probe(torch.ones(300, 4), torch.arange(300) % 3)
    assert result.accuracy == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.zeros(20, 2), torch.zeros(20), "tells classes apart, and there are 1"),
        (torch.zeros(20), torch.zeros(20), r"must be \(N, D\)"),
        (torch.full((20, 2), torch.nan), torch.arange(20), "20 of 20 rows .* not finite"),
    ],
)
def test_what_cannot_be_probed_is_refused(features: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train_probe(features, labels)


def test_figures_for_json() -> None:
    result = ProbeResult(
        kind="linear",
        top1=(0.5, 0.7),
        balanced=(0.4, 0.6),
        control=(0.1, 0.3),
        chance=0.2,
        majority=0.25,
        classes=5,
        tested=100,
    )
    found = result.as_dict()
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["selectivity"] == pytest.approx(0.4)
    assert found["top1_by_seed"] == [0.5, 0.7]
    assert found["interval"][0] < 0.6 < found["interval"][1]
