from __future__ import annotations

import math

import pytest
import torch

from components.decoders.alignment import TokenSpan, align_batch, forced_align
from core.errors import DataError
from tests.components.ctc_oracle import alignments


def test_is_the_best_of_all_alignments() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        log_probs = (2 * torch.randn(6, 3, dtype=torch.float64)).log_softmax(-1)
        for tokens, paths in alignments(log_probs).items():
            best = list(max(paths, key=lambda path: paths[path].item()))
            spans = forced_align(log_probs, tokens)
            assert tuple(span.token for span in spans) == tokens
            path = [0] * 6
            for span in spans:
                path[span.start : span.end] = [span.token] * (span.end - span.start)
                mean = log_probs[span.start : span.end, span.token].mean().exp().item()
                assert span.probability == pytest.approx(mean)
            if tokens:
                assert path == best, tokens


def test_hand_made_spans_with_another_blank() -> None:
    probs = torch.full((5, 3), 0.05)
    for frame, token in enumerate([2, 0, 0, 2, 0]):
        probs[frame, token] = 0.9
    spans = forced_align(probs.log(), [0, 0], blank=2)
    assert [span[:3] for span in spans] == [(0, 1, 3), (0, 4, 5)]
    assert [span.probability for span in spans] == pytest.approx([0.9, 0.9], rel=1e-5)


def test_no_targets_have_no_spans() -> None:
    assert forced_align(torch.zeros(4, 3), []) == []
    assert forced_align(torch.zeros(0, 3), []) == []


def test_just_enough_frames() -> None:
    log_probs = torch.zeros(3, 3).log_softmax(-1)
    third = pytest.approx(1 / 3)
    assert forced_align(log_probs, [1, 1]) == [TokenSpan(1, 0, 1, third), TokenSpan(1, 2, 3, third)]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1, 1, 2], "cannot align 3 targets to 3 frames: .* 4 in all"),
        ([1, 0], "target 1 is 0, which is the blank"),
        ([1, 3], "target 1 is 3, which is not in 0..2"),
        ([-1], "target 0 is -1, which is not in 0..2"),
    ],
)
def test_what_cannot_be_aligned_is_refused(targets: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        forced_align(torch.zeros(3, 3), targets)


def test_an_impossible_token_is_refused() -> None:
    log_probs = torch.tensor([[0.5, 0.5, 0.0]] * 3).log()
    assert forced_align(log_probs, [1])[0].probability == pytest.approx(math.exp(math.log(0.5)))
    with pytest.raises(DataError, match=r"every path .* probability 0"):
        forced_align(log_probs, [2])


def test_a_batch_equals_its_rows() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(3, 9, 4).log_softmax(-1)
    targets = torch.tensor([[1, 2, 3], [2, 2, 0], [-1, 7, 0]])
    found = align_batch(log_probs, torch.tensor([9, 4, 0]), targets, torch.tensor([3, 2, 0]))
    for row, (frames, ids) in enumerate([(9, [1, 2, 3]), (4, [2, 2]), (0, [])]):
        spans = forced_align(log_probs[row, :frames], ids)
        assert list(found[row].ids) == ids
        assert found[row].starts == tuple(span.start for span in spans)
        assert found[row].ends == tuple(span.end for span in spans)
        assert found[row].score == pytest.approx(sum(math.log(span.probability) for span in spans))


def test_a_batch_names_the_utterance_that_cannot_be_aligned() -> None:
    lengths, sizes = torch.tensor([3, 1]), torch.tensor([2, 2])
    with pytest.raises(DataError, match="utterance 1 of the batch: cannot align 2 targets to 1"):
        align_batch(torch.zeros(2, 3, 4), lengths, torch.tensor([[1, 2], [1, 2]]), sizes)
