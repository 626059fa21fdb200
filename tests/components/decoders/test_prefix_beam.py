from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.decoders.greedy import GreedyDecoder
from components.decoders.prefix_beam import PrefixBeamDecoder
from core.errors import ConfigError
from tests.components.ctc_oracle import sequence_scores


def decode(probs: list[list[float]], **options: float) -> list[tuple[tuple[int, ...], float]]:
    logits = torch.tensor([probs]).log()
    decoder = PrefixBeamDecoder(**options)  # type: ignore[arg-type]
    (found,) = decoder.nbest(logits, torch.tensor([len(probs)]))
    return [(hypothesis.ids, math.exp(hypothesis.score)) for hypothesis in found]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([0.3, 1.0, 4.0]))
def test_a_wide_beam_equals_the_sum_over_all_alignments(
    frames: int, vocab: int, seed: int, spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs = (spread * torch.randn(frames, vocab, generator=generator)).log_softmax(-1)
    expected = {tokens: score.item() for tokens, score in sequence_scores(log_probs).items()}
    (found,) = PrefixBeamDecoder(beam_size=2000).nbest(log_probs[None], torch.tensor([frames]))
    assert {hypothesis.ids: hypothesis.score for hypothesis in found} == pytest.approx(
        expected, abs=1e-5
    )
    scores = [hypothesis.score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("beam_size", [1, 2, 3, 7])
def test_a_narrow_beam_never_scores_a_sequence_above_its_probability(beam_size: int) -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        log_probs = torch.randn(6, 3).log_softmax(-1)
        exact = sequence_scores(log_probs)
        (found,) = PrefixBeamDecoder(beam_size=beam_size).nbest(log_probs[None], torch.tensor([6]))
        ids = [hypothesis.ids for hypothesis in found]
        assert len(set(ids)) == len(ids) <= beam_size
        for hypothesis in found:
            assert hypothesis.score <= exact[hypothesis.ids].item() + 1e-5


def textbook(log_probs: Tensor, beam_size: int) -> dict[tuple[int, ...], float]:
    """Prefix beam search over a dictionary keyed by whole prefixes."""
    beam = {(): (1.0, 0.0)}
    for frame in log_probs.double().exp().tolist():
        sums: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, label) in beam.items():
            sums[prefix][0] += (blank + label) * frame[0]
            for token, probability in enumerate(frame):
                if token == 0:
                    continue
                if prefix and prefix[-1] == token:
                    sums[prefix][1] += label * probability
                    sums[(*prefix, token)][1] += blank * probability
                else:
                    sums[(*prefix, token)][1] += (blank + label) * probability
        best = sorted(sums, key=lambda prefix: -sum(sums[prefix]))[:beam_size]
        beam = {prefix: (sums[prefix][0], sums[prefix][1]) for prefix in best}
    return {prefix: math.log(sum(parts)) for prefix, parts in beam.items()}


@pytest.mark.parametrize("beam_size", [2, 3, 5, 8])
def test_a_narrow_beam_equals_the_textbook(beam_size: int) -> None:
    # Long enough for prefixes to leave the beam and come back while longer ones stayed.
    for seed in range(10):
        torch.manual_seed(seed)
        log_probs = (2 * torch.randn(40, 3)).log_softmax(-1)
        (found,) = PrefixBeamDecoder(beam_size=beam_size).nbest(log_probs[None], torch.tensor([40]))
        expected = textbook(log_probs, beam_size)
        assert [hypothesis.ids for hypothesis in found] == list(expected)
        scores = [hypothesis.score for hypothesis in found]
        assert scores == pytest.approx(list(expected.values()), abs=1e-4)


def test_finds_the_sequence_that_greedy_misses() -> None:
    # The best path is all blanks (0.36), but paths that spell "1" sum to 0.64.
    probs = [[0.6, 0.4], [0.6, 0.4]]
    logits, lengths = torch.tensor([probs]).log(), torch.tensor([2])
    assert GreedyDecoder()(logits, lengths)[0].ids == ()
    (best,) = PrefixBeamDecoder(beam_size=2)(logits, lengths)
    assert best.ids == (1,)
    assert math.exp(best.score) == pytest.approx(0.64)
    assert decode(probs, beam_size=2) == [((1,), pytest.approx(0.64)), ((), pytest.approx(0.36))]


def test_repeats_need_a_blank_between() -> None:
    certain = decode([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert certain == [((1, 1), pytest.approx(1.0))]
    assert decode([[0.0, 1.0], [0.0, 1.0]]) == [((1,), pytest.approx(1.0))]


def test_spans_are_those_of_the_best_path() -> None:
    probs = [[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.3, 0.7, 0.0], [0.1, 0.0, 0.9]]
    (best,) = PrefixBeamDecoder()(torch.tensor([probs]).log(), torch.tensor([4]))
    assert (best.ids, best.starts, best.ends) == ((1, 2), (1, 3), (3, 4))
    assert best.probabilities == pytest.approx((math.sqrt(0.8 * 0.7), 0.9))


def test_threshold_drops_improbable_tokens_but_never_the_best() -> None:
    probs = [[0.5, 0.45, 0.05]]
    assert [ids for ids, _ in decode(probs, token_threshold=0.1)] == [(), (1,)]
    assert [ids for ids, _ in decode([[0.2, 0.5, 0.3]], token_threshold=0.9)] == [(1,), ()]
    exact = decode([[0.2, 0.5, 0.3]] * 4, beam_size=500)
    assert decode([[0.2, 0.5, 0.3]] * 4, beam_size=500, token_threshold=0.01) == exact


def test_ties_keep_the_order_of_prefix_and_token() -> None:
    assert [ids for ids, _ in decode([[0.25] * 4])] == [(), (1,), (2,), (3,)]


def test_a_batch_equals_its_rows() -> None:
    torch.manual_seed(0)
    logits, lengths = torch.randn(3, 20, 5), torch.tensor([20, 7, 0])
    decoder = PrefixBeamDecoder(beam_size=4)

    def row(index: int) -> Tensor:
        return logits[index : index + 1, : int(lengths[index])]

    together = decoder(logits, lengths)
    alone = [decoder(row(index), lengths[index : index + 1])[0] for index in range(3)]
    assert together == alone
    assert together[2].ids == ()
    assert together[2].score == 0.0


def test_only_blanks_in_the_vocabulary() -> None:
    assert decode([[1.0], [1.0]]) == [((), pytest.approx(1.0))]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="beam_size must be at least 1, but is 0"):
        PrefixBeamDecoder(beam_size=0)
    with pytest.raises(ConfigError, match="token_threshold must lie between 0 and 1"):
        PrefixBeamDecoder(token_threshold=1.0)
