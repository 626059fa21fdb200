from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from components.masking.random_block import RandomBlockMasking
from core.errors import ConfigError

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest/masking.safetensors"


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize("seed", range(4))
def test_overlapping_masks_are_nemos(seed: int) -> None:
    golden = load_file(GOLDEN)
    torch.manual_seed(100 + seed)
    mask = RandomBlockMasking().draw(golden["lengths"], frames=1600)
    assert torch.equal(mask.float(), golden[f"overlap.masks_time.{seed}"])


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize("seed", range(2))
def test_masks_on_a_grid_are_nemos(seed: int) -> None:
    golden = load_file(GOLDEN)
    masking = RandomBlockMasking(block_size=48, mask_prob=0.5, allow_overlap=False)
    torch.manual_seed(200 + seed)
    mask = masking.draw(golden["lengths"], frames=1600)
    assert torch.equal(mask.float(), golden[f"no_overlap.masks_time.{seed}"])


@pytest.mark.parametrize("frames", [800, 6000])
def test_share_of_masked_frames_is_what_the_probability_gives(frames: int) -> None:
    torch.manual_seed(0)
    draws = RandomBlockMasking().draw(torch.full((400,), frames), frames=frames)
    # Frame t is masked unless none of the starts t - 39 ... t was drawn, where those exist.
    places = torch.arange(frames).float()
    starts = (places + 1).clamp(max=40) - (places - (frames - 41)).clamp(min=0)
    expected = float((1 - 0.99**starts).mean())
    assert draws.float().mean().item() == pytest.approx(expected, abs=0.01)


def test_nothing_past_a_length_is_masked_and_short_utterances_get_one_short_block() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([0, 1, 7, 20, 50, 51, 400])
    for overlap in (True, False):
        masking = RandomBlockMasking(mask_prob=0.3, allow_overlap=overlap)
        mask = masking.draw(lengths, frames=416)
        for row, length in enumerate(lengths.tolist()):
            assert not mask[row, length:].any()
            if length <= 50:
                assert mask[row].nonzero().flatten().tolist() == list(range(min(length, 8)))


@given(
    block=st.integers(1, 60),
    prob=st.floats(0.0, 1.0, exclude_min=True),
    ratio=st.floats(0.0, 1.0, exclude_min=True),
    overlap=st.booleans(),
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_any_legal_settings_mask_frames_of_the_utterance_only(
    block: int, prob: float, ratio: float, overlap: bool, lengths: list[int], seed: int
) -> None:
    masking = RandomBlockMasking(
        block_size=block, mask_prob=prob, max_mask_ratio=ratio, allow_overlap=overlap
    )
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(lengths))]
    mask = masking.draw(torch.tensor(lengths), frames=max(lengths), generators=generators)
    short = masking.too_short(torch.tensor(lengths)).tolist()
    assert short == [block >= length * ratio for length in lengths]
    for row, length, brief in zip(mask, lengths, short, strict=True):
        assert not row[length:].any()
        if brief:
            assert row.nonzero().flatten().tolist() == list(range(min(length, 8)))
        elif not overlap and block == 1:
            assert int(row.sum()) == min(math.ceil(length * prob), length - 1)


def test_a_grid_of_single_frames_can_mask_nearly_all() -> None:
    masking = RandomBlockMasking(block_size=1, mask_prob=1.0, allow_overlap=False)
    mask = masking.draw(torch.tensor([10]), frames=10)
    assert mask.tolist() == [[True] * 9 + [False]]


def test_the_shortest_length_for_a_block_is_found_exactly() -> None:
    """In float32, 0.55 * 100 rounds to 55.0; in Python it is above."""
    masking = RandomBlockMasking(block_size=55, max_mask_ratio=0.55)
    assert masking.too_short(torch.tensor([99, 100, 101])).tolist() == [True, False, False]


def test_a_generator_for_each_utterance_makes_the_mask_independent_of_the_batch() -> None:
    masking = RandomBlockMasking()

    def generators(seeds: list[int]) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = masking.draw(torch.tensor([300, 500]), frames=500, generators=generators([1, 2]))
    alone = masking.draw(torch.tensor([500]), frames=700, generators=generators([2]))
    assert together[1].any()
    assert torch.equal(together[1], alone[0, :500])


def test_masked_frames_become_the_embedding_and_others_stay() -> None:
    masking = RandomBlockMasking()
    masking.setup(input_dim=5)
    assert not masking.embedding.requires_grad
    features = torch.randn(2, 7, 5)
    mask = torch.rand(2, 7) < 0.5
    masked = masking(features, mask)
    assert torch.equal(masked[~mask], features[~mask])
    assert torch.equal(masked[mask], masking.embedding.expand(int(mask.sum()), 5))


def test_a_blind_model_sees_the_embedding_alone() -> None:
    masking = RandomBlockMasking(hide_all=True)
    masking.setup(input_dim=5)
    masked = masking(torch.randn(1, 3, 5), torch.zeros(1, 3, dtype=torch.bool))
    assert torch.equal(masked[0], masking.embedding.expand(3, 5))


def test_a_learnt_embedding_gets_the_gradient_of_masked_frames() -> None:
    masking = RandomBlockMasking(freeze=False)
    masking.setup(input_dim=2)
    mask = torch.tensor([[True, False, True]])
    masking(torch.zeros(1, 3, 2), mask).sum().backward()
    assert masking.embedding.grad is not None
    assert masking.embedding.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_size": 0}, "block_size must be at least 1, found 0"),
        ({"mask_prob": 0.0}, r"mask_prob must be in \(0, 1\], found 0.0"),
        ({"max_mask_ratio": 1.5}, r"max_mask_ratio must be in \(0, 1\], found 1.5"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RandomBlockMasking(**changes)  # type: ignore[arg-type]
