from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from components.losses.ctc import CTCLoss
from core.errors import ConfigError, DataError
from tests.components.ctc_oracle import alignments, sequence_scores


class Identity(nn.Module):
    """A head that takes hidden states for logits."""

    bias = None

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.weight = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)

    def setup(self, *, input_dim: int, vocab_size: int) -> None: ...

    def inputs(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


class LinearHead(nn.Linear):
    def setup(self, *, input_dim: int, vocab_size: int) -> None: ...

    def inputs(self, hidden: Tensor) -> Tensor:
        return hidden


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_loss_equals_sum_over_all_alignments() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 3, dtype=torch.float64)
    expected = sequence_scores(logits[0].log_softmax(-1))
    for tokens, score in expected.items():
        targets = ints(*tokens).reshape(1, -1)
        _, losses, feasible = CTCLoss()(
            logits, Identity(logits), ints(4), targets, ints(len(tokens))
        )
        assert feasible.item()
        torch.testing.assert_close(losses[0], -score, rtol=1e-10, atol=1e-10)


def test_gradient_equals_that_of_the_sum_over_all_alignments() -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    loss = CTCLoss()(logits, Identity(logits), ints(4), ints(2, 2).reshape(1, 2), ints(2)).total
    (actual,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(-sequence_scores(logits[0].log_softmax(-1))[(2, 2)], logits)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


def test_feasible_says_whether_an_alignment_exists() -> None:
    paths = {frames: alignments(torch.zeros(frames, 3)) for frames in range(1, 5)}
    for frames in range(1, 5):
        for tokens in paths[4]:
            row = ints(*tokens).reshape(1, -1)
            actual = CTCLoss.feasible(ints(frames), row, ints(len(tokens)))
            assert actual.tolist() == [tokens in paths[frames]], (frames, tokens)


def test_feasible_ignores_repeats_in_padding() -> None:
    targets = torch.tensor([[1, 2, 2, 2], [3, 3, 3, 1]])
    actual = CTCLoss.feasible(ints(2, 4), targets, ints(2, 3))
    assert actual.tolist() == [True, False]


def test_infeasible_utterance_adds_exactly_nothing_and_leaves_its_neighbour_alone() -> None:
    torch.manual_seed(2)
    head = LinearHead(4, 6)
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    targets = torch.tensor([[1, 1, 2], [4, 5, 0]])
    total, losses, feasible = CTCLoss()(hidden, head, ints(3, 3), targets, ints(3, 2))
    total.backward()
    assert feasible.tolist() == [False, True]
    assert losses[0].item() == 0.0
    assert hidden.grad is not None
    assert hidden.grad[0].eq(0).all()
    alone = hidden[1:].detach().clone().requires_grad_()
    expected, *_ = CTCLoss()(alone, head, ints(3), targets[1:, :2], ints(2))
    expected.backward()
    assert alone.grad is not None
    torch.testing.assert_close(losses[1], expected)
    torch.testing.assert_close(hidden.grad[1:], alone.grad)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(3)
    head = LinearHead(4, 6)
    hidden = torch.randn(1, 7, 4)
    padded = torch.cat([hidden, torch.full((1, 5, 4), 1e4)], dim=1)
    alone = CTCLoss()(hidden, head, ints(7), ints(1, 2, 2).reshape(1, 3), ints(3)).losses
    garbage = torch.tensor([[1, 2, 2, -1, 10**9]])
    together = CTCLoss()(padded, head, ints(7), garbage, ints(3)).losses
    assert torch.equal(alone, together)


def test_no_targets_costs_all_blanks() -> None:
    torch.manual_seed(4)
    logits = torch.randn(2, 5, 3)
    empty = torch.zeros(2, 0, dtype=torch.int64)
    _, losses, feasible = CTCLoss()(logits, Identity(logits), ints(5, 3), empty, ints(0, 0))
    blanks = logits.log_softmax(-1)[..., 0]
    torch.testing.assert_close(losses, -torch.stack([blanks[0].sum(), blanks[1, :3].sum()]))
    assert feasible.all()


@pytest.mark.parametrize("frames", [0, 2])
def test_no_frames_cost_nothing_and_keep_the_graph(frames: int) -> None:
    hidden = torch.randn(2, frames, 4, requires_grad=True)
    targets = torch.tensor([[0], [3]])
    total, losses, feasible = CTCLoss()(hidden, LinearHead(4, 6), ints(0, 0), targets, ints(0, 1))
    total.backward()
    assert losses.tolist() == [0.0, 0.0]
    assert feasible.tolist() == [True, False]
    assert hidden.grad is not None
    assert hidden.grad.eq(0).all()


@pytest.mark.parametrize("wrong", [-1, 0, 6])
def test_target_outside_the_vocabulary_is_refused(wrong: int) -> None:
    targets = torch.tensor([[1, 2], [3, wrong]])
    with pytest.raises(
        DataError, match=rf"CTC .*label {wrong} at position 1 of utterance 1.* tokenizer"
    ):
        CTCLoss()(torch.randn(2, 4, 4), LinearHead(4, 6), ints(4, 4), targets, ints(2, 2))


def test_what_is_wrong_beside_targets_is_not_blamed_on_the_tokenizer() -> None:
    targets = torch.tensor([[1, 2], [3, 4]])
    with pytest.raises(DataError, match=r"CTC input_lengths\[1\] = 5: .* frames 4$"):
        CTCLoss()(torch.randn(2, 4, 4), LinearHead(4, 6), ints(4, 5), targets, ints(2, 2))


def test_autocast_does_not_lower_the_precision_of_the_lattice() -> None:
    torch.manual_seed(5)
    logits = torch.randn(1, 50, 9).bfloat16().float()  # so that the projection is exact
    targets = torch.randint(1, 9, (1, 8))
    exact = CTCLoss()(logits, Identity(logits), ints(50), targets, ints(8)).losses
    with torch.autocast("cpu", torch.bfloat16):
        losses = CTCLoss()(logits, Identity(logits), ints(50), targets, ints(8)).losses
        half = CTCLoss()(
            logits.bfloat16(), Identity(logits.bfloat16()), ints(50), targets, ints(8)
        ).losses
    assert losses.dtype == half.dtype == torch.float32
    torch.testing.assert_close(losses, exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(half, exact, rtol=1e-6, atol=0)


def test_nan_is_passed_on() -> None:
    logits = torch.full((1, 3, 4), float("nan"))
    losses = CTCLoss()(logits, Identity(logits), ints(3), ints(1).reshape(1, 1), ints(1)).losses
    assert losses.isnan().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu() -> None:
    torch.manual_seed(6)
    logits = torch.randn(3, 20, 9)
    targets = torch.randint(1, 9, (3, 6))
    arguments = (ints(20, 11, 3), targets, ints(6, 4, 6))
    expected = CTCLoss()(logits, Identity(logits), *arguments)
    actual = CTCLoss()(
        logits.cuda(), Identity(logits.cuda()), *(tensor.cuda() for tensor in arguments)
    )
    torch.testing.assert_close(actual.losses.cpu(), expected.losses, rtol=1e-5, atol=1e-4)
    assert torch.equal(actual.feasible.cpu(), expected.feasible)


def test_options_act_in_training_only() -> None:
    torch.manual_seed(7)
    logits = torch.randn(2, 6, 5)
    arguments = (Identity(logits), ints(6, 4), torch.tensor([[1, 2], [3, 3]]), ints(2, 2))
    plain = CTCLoss()(logits, *arguments).losses
    for loss in (
        CTCLoss(label_smoothing=0.1),
        CTCLoss(entropy_bonus=0.1),
        CTCLoss(blank_penalty=1.0),
    ):
        assert (loss.train()(logits, *arguments).losses - plain).abs().min() > 1e-3
        assert torch.equal(loss.eval()(logits, *arguments).losses, plain)


def test_label_smoothing_is_a_cross_entropy_with_the_uniform_distribution() -> None:
    torch.manual_seed(8)
    logits = torch.randn(1, 6, 5, dtype=torch.float64)
    arguments = (Identity(logits), ints(4), ints(1, 2).reshape(1, 2), ints(2))
    plain = CTCLoss()(logits, *arguments).total
    uniform = -logits[0, :4].log_softmax(-1).mean(-1).sum()
    smoothed = CTCLoss(label_smoothing=0.3)(logits, *arguments).total
    torch.testing.assert_close(smoothed, 0.7 * plain + 0.3 * uniform)


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.0}, {"entropy_bonus": -0.1}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CTCLoss(**wrong)


def test_description_names_the_backend_and_why() -> None:
    cpu = torch.device("cpu")
    assert CTCLoss().describe(cpu) == "linear_ctc_loss, backend torch (auto, on cpu)"
    named = CTCLoss(backend="reference").describe(cpu)
    assert named == "linear_ctc_loss, backend reference (as configured)"
