from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.decoders.greedy import GreedyDecoder
from tests.components.ctc_oracle import collapse


def test_hand_made_path() -> None:
    path = [0, 2, 2, 0, 2, 1, 1, 0]
    probs = torch.full((1, 8, 3), 0.1)
    probs[0, range(8), path] = 0.8
    probs[0, 2] = torch.tensor([0.2, 0.2, 0.6])
    (hypothesis,) = GreedyDecoder()(probs.log(), torch.tensor([8]))
    assert hypothesis.ids == (2, 2, 1)
    assert hypothesis.starts == (1, 4, 5)
    assert hypothesis.ends == (3, 5, 7)
    expected = torch.tensor([math.sqrt(0.8 * 0.6), 0.8, 0.8])
    torch.testing.assert_close(torch.tensor(hypothesis.probabilities), expected)
    torch.testing.assert_close(hypothesis.score, 7 * math.log(0.8) + math.log(0.6))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(0, 12), st.integers(1, 5), st.integers(0, 1000))
def test_equals_the_plain_loop(batch: int, frames: int, vocab: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, frames, vocab, generator=generator)
    lengths = torch.randint(0, frames + 1, (batch,), generator=generator)
    hypotheses = GreedyDecoder()(logits, lengths)
    assert len(hypotheses) == batch
    for row, hypothesis in enumerate(hypotheses):
        valid = logits[row, : lengths[row]].log_softmax(-1)
        path = valid.argmax(-1).tolist()
        assert hypothesis.ids == collapse(path)
        torch.testing.assert_close(
            hypothesis.score, valid.max(-1).values.double().sum().item(), rtol=1e-5, atol=1e-5
        )
        for token, start, end, probability in zip(
            hypothesis.ids,
            hypothesis.starts,
            hypothesis.ends,
            hypothesis.probabilities,
            strict=True,
        ):
            assert path[start:end] == [token] * (end - start)
            assert start == 0 or path[start - 1] != token
            assert end == len(path) or path[end] != token
            mean = valid[start:end, token].mean().exp().item()
            torch.testing.assert_close(probability, mean, rtol=1e-5, atol=1e-6)


def test_a_batch_equals_its_rows() -> None:
    torch.manual_seed(0)
    logits, lengths = torch.randn(3, 30, 5).bfloat16(), torch.tensor([30, 7, 0])
    together = GreedyDecoder()(logits, lengths)
    alone = [
        GreedyDecoder()(logits[row : row + 1, :length], lengths[row : row + 1])[0]
        for row, length in enumerate(lengths.tolist())
    ]
    assert together == alone
