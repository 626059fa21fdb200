from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.errors import BackendError, KernelInputError, LabelError
from kernels.masked_ce import masked_cross_entropy
from tests.kernels.masked_ce.examples import (
    ALL_BACKENDS,
    BACKENDS,
    REDUCTIONS,
    assert_close,
    dense,
    example,
)

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "nest"
SHAPES = [
    {"books": 1, "vocabulary": 64, "width": 16},
    {"books": 3, "vocabulary": 37, "width": 10},
    {"books": 2, "vocabulary": 2, "width": 1},
    {"books": 2, "vocabulary": 1, "width": 3},
    {"books": 2, "vocabulary": 50, "width": 7, "bias": False},
    {"books": 2, "vocabulary": 9, "width": 4, "shape": (1, 1), "masked": 2.0},
]


def weighted(loss: Tensor) -> Tensor:
    """Return a scalar in which each element of a loss has another weight."""
    weights = torch.linspace(-1.0, 2.0, loss.numel(), dtype=loss.dtype, device=loss.device)
    return (loss * weights.view(loss.shape)).sum() if loss.dim() else loss * 1.7


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_it_is_nemos_loss(
    backend: str, reduction: str, shape: dict[str, int], device: torch.device
) -> None:
    given = example(device, **shape).leaves()
    oracle = given.to(torch.float64).leaves()
    loss = given.loss(reduction=reduction, backend=backend).loss
    expected = dense(oracle, reduction)
    assert loss.dtype == torch.float32
    assert loss.shape == expected.shape
    assert_close([loss], [expected], 1e-5)
    assert_close(given.gradients(weighted(loss)), oracle.gradients(weighted(expected)), 1e-5)


@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_it_is_the_loss_that_nemo_computed(backend: str, device: torch.device) -> None:
    if not GOLDEN.is_dir():
        pytest.skip("no golden tensors beside the repository")
    from safetensors import safe_open
    from safetensors.torch import load_file

    io, state = (
        load_file(GOLDEN / "mini_io.safetensors"),
        load_file(GOLDEN / "mini_state.safetensors"),
    )
    with safe_open(GOLDEN / "mini_io.safetensors", "pt") as file:
        printed = json.loads(file.metadata()["loss"])
    found = masked_cross_entropy(
        io["encoded"].transpose(1, 2).to(device),
        state["decoder.decoder_layers.0.weight"].transpose(0, 2).transpose(1, 2).to(device),
        state["decoder.decoder_layers.0.bias"][None].to(device),
        io["tokens"].to(device),
        io["frame_mask"].bool().to(device),
        backend=backend,
    )
    assert float(found) == pytest.approx(float(io["loss"]), rel=1e-6)
    assert float(found) == pytest.approx(printed, rel=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_gradients_are_derivatives(backend: str, reduction: str, device: torch.device) -> None:
    given = example(device, shape=(1, 3), vocabulary=5, width=3, masked=0.8, dtype=torch.float64)

    def loss(*parameters: Tensor) -> Tensor:
        hidden, weight, bias = parameters
        moved = replace(given, hidden=hidden, weight=weight, bias=bias)
        return moved.loss(reduction=reduction, backend=backend).loss

    leaves = given.leaves()
    assert torch.autograd.gradcheck(loss, (leaves.hidden, leaves.weight, leaves.bias))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_frames_that_are_not_masked_do_not_matter(
    backend: str, reduction: str, device: torch.device
) -> None:
    given = example(device).leaves()
    broken = replace(given, hidden=given.hidden.masked_fill(~given.mask[..., None], torch.nan))
    broken = broken.leaves()
    loss = given.loss(reduction=reduction, backend=backend).loss
    again = broken.loss(reduction=reduction, backend=backend).loss
    assert torch.equal(loss, again)
    for one, other in zip(given.gradients(loss), broken.gradients(again), strict=True):
        assert torch.equal(one, other)
    assert given.gradients(loss)[0][~given.mask].eq(0).all()
    if reduction == "none":
        assert loss[~given.mask].eq(0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_a_row_of_logits_sums_to_0(backend: str, device: torch.device) -> None:
    given = example(device, books=3, vocabulary=45).leaves()
    bias = given.gradients(given.loss(reduction="sum", backend=backend).loss)[2]
    assert bias.abs().sum() > 1
    assert bias.sum(dim=1).abs().max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuted_classes_permute_gradients(backend: str, device: torch.device) -> None:
    given = example(device).leaves()
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1)).to(device)
    assert given.bias is not None
    moved = replace(
        given,
        weight=given.weight[:, order],
        bias=given.bias[:, order],
        targets=torch.where(given.mask[..., None], order.argsort()[given.targets % 37], -1),
    ).leaves()
    first = given.loss(backend=backend).loss
    second = moved.loss(backend=backend).loss
    hidden, weight, bias = given.gradients(first)
    assert_close([second], [first], 1e-6)
    assert_close(moved.gradients(second), [hidden, weight[:, order], bias[:, order]], 1e-6)


@pytest.mark.parametrize("backend", ALL_BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_masked_frames_all_is_0(backend: str, reduction: str, device: torch.device) -> None:
    given = example(device, masked=0.0).leaves()
    found = given.loss(reduction=reduction, backend=backend)
    assert found.loss.eq(0).all()
    assert found.losses.eq(0).all()
    assert found.correct.eq(0).all()
    assert int(found.masked) == 0
    assert all(grad.eq(0).all() for grad in given.gradients(found.loss))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_an_empty_batch_has_loss_0(
    backend: str, shape: tuple[int, int], device: torch.device
) -> None:
    given = example(device, shape=shape).leaves()
    loss = given.loss(backend=backend).loss
    assert loss.eq(0)
    assert [grad.shape for grad in given.gradients(loss)] == [
        given.hidden.shape,
        given.weight.shape,
        (2, 37),
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_all_frames_masked_it_is_cross_entropy(backend: str, device: torch.device) -> None:
    given = example(device, books=1, masked=2.0)
    assert given.bias is not None
    logits = F.linear(given.hidden, given.weight[0], given.bias[0])
    expected = F.cross_entropy(logits.flatten(0, 1), given.targets.flatten())
    assert_close([given.loss(backend=backend).loss], [expected], 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_book_is_a_loss_of_its_own(backend: str, device: torch.device) -> None:
    given = example(device, books=3).leaves()
    whole = given.loss(reduction="sum", backend=backend)
    gradients = given.gradients(whole.loss)
    assert given.bias is not None
    hidden = torch.zeros_like(gradients[0])
    for book in range(3):
        one = replace(
            given,
            weight=given.weight[book : book + 1],
            bias=given.bias[book : book + 1],
            targets=given.targets[..., book : book + 1],
        ).leaves()
        alone = one.loss(reduction="sum", backend=backend)
        grads = one.gradients(alone.loss)
        assert_close([alone.loss, alone.losses[0]], [whole.losses[book]] * 2, 1e-6)
        assert alone.correct[0] == whole.correct[book]
        assert_close([grads[1][0], grads[2][0]], [x[book] for x in gradients[1:]], 1e-6)
        hidden += grads[0]
    assert_close([hidden], gradients[:1], 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_of_one_is_a_row_of_the_batch(backend: str, device: torch.device) -> None:
    given = example(device)
    losses = given.loss(reduction="none", backend=backend).loss
    for item in range(3):
        alone = replace(
            given,
            hidden=given.hidden[item : item + 1],
            targets=given.targets[item : item + 1],
            mask=given.mask[item : item + 1],
        )
        assert_close([alone.loss(reduction="none", backend=backend).loss[0]], [losses[item]], 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("chunk_bytes", [1, 37 * 4 * 3, 37 * 4 * 25])
def test_chunks_change_nothing(
    backend: str, reduction: str, chunk_bytes: int, device: torch.device
) -> None:
    given = example(device, books=3).leaves()
    whole = given.loss(reduction=reduction, backend=backend).loss
    parts = given.loss(reduction=reduction, backend=backend, chunk_bytes=chunk_bytes).loss
    assert_close([parts], [whole], 1e-6)
    assert_close(given.gradients(weighted(parts)), given.gradients(weighted(whole)), 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    "grad", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
def test_frozen_parameters_get_no_gradient(
    backend: str, reduction: str, grad: tuple[bool, bool, bool], device: torch.device
) -> None:
    whole, part = example(device).leaves(), example(device).leaves(grad=grad)
    expected = whole.gradients(whole.loss(reduction=reduction, backend=backend).loss)
    loss = part.loss(reduction=reduction, backend=backend).loss
    assert_close(part.gradients(loss), [x for x, g in zip(expected, grad, strict=True) if g], 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_runs_are_bit_equal_whatever_memory_held(
    backend: str, reduction: str, device: torch.device
) -> None:
    given = example(device, books=3).leaves()

    def run() -> list[Tensor]:
        found = given.loss(reduction=reduction, backend=backend, chunk_bytes=37 * 4 * 5)
        first = given.gradients(weighted(found.loss))
        again = given.gradients(weighted(found.loss))
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
        return [found.loss, found.losses, *first]

    plain = run()
    # In this mode torch fills new memory with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        poisoned = run()
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(plain, poisoned, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_and_integer_types_do_not_matter(backend: str, device: torch.device) -> None:
    given = example(device)
    expected = given.loss(backend=backend).loss
    given = replace(
        given,
        hidden=given.hidden.transpose(1, 2).contiguous().transpose(1, 2),
        weight=given.weight.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        mask=given.mask.T.contiguous().T,
        targets=given.targets.clamp(min=-9).int(),
    ).leaves()
    loss = given.loss(backend=backend).loss
    assert torch.equal(loss, expected)
    assert given.gradients(loss)[1].shape == given.weight.shape


@pytest.mark.parametrize("backend", ALL_BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_statistics_are_those_of_the_masked_frames(
    backend: str, reduction: str, device: torch.device
) -> None:
    given = example(device, books=3, vocabulary=4).leaves()
    assert given.bias is not None
    with torch.no_grad():
        found = given.loss(reduction=reduction, backend=backend)
        logits = torch.einsum("btd,cvd->btcv", given.hidden, given.weight) + given.bias
        hits = (logits.argmax(-1) == given.targets) & given.mask[..., None]
        losses = dense(given, "none").sum((0, 1))
    count = int(given.mask.sum())
    assert not found.loss.requires_grad
    assert found.correct.tolist() == hits.sum((0, 1)).tolist()
    assert int(found.masked) == count
    assert_close([found.losses], [losses if reduction == "sum" else losses / count], 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_classes_the_first_counts_as_found(backend: str, device: torch.device) -> None:
    given = example(device, books=1, masked=2.0, bias=False)
    given = replace(given, weight=torch.zeros_like(given.weight), targets=given.targets % 2)
    found = given.loss(backend=backend)
    assert found.correct.tolist() == [int(given.targets.eq(0).sum())]


def test_statistics_carry_no_gradient(device: torch.device) -> None:
    found = example(device).leaves().loss(backend="torch")
    assert [field.requires_grad for field in found] == [True, False, False, False]


def test_a_second_derivative_is_refused(device: torch.device) -> None:
    given = example(device).leaves()
    for reduction in ("mean", "none"):
        loss = given.loss(reduction=reduction, backend="torch").loss.sum()
        (grad,) = torch.autograd.grad(loss, given.hidden, create_graph=True)
        with pytest.raises(BackendError, match="no second derivative"):
            grad.sum().backward()


@pytest.mark.parametrize("backend", ALL_BACKENDS)
@pytest.mark.parametrize("wrong", [-1, 37, 2**40])
def test_a_wrong_target_is_refused_or_gives_nan(
    backend: str, wrong: int, device: torch.device
) -> None:
    given = example(device).leaves()
    item, frame = (int(x) for x in given.mask.nonzero()[2])
    targets = given.targets.clone()
    targets[item, frame, 1] = wrong
    broken = replace(given, targets=targets)
    message = rf"targets\[{item}, {frame}, 1\] is {wrong} in a masked frame; .*\[0, 37\)"
    with pytest.raises(LabelError, match=message):
        broken.loss(validate=True, backend=backend)
    losses = broken.loss(validate=False, reduction="none", backend=backend).loss
    expected = given.loss(reduction="none", backend=backend).loss
    assert losses.isnan().nonzero().tolist() == [[item, frame, 1]]
    assert torch.equal(losses.nan_to_num(0.0), expected * ~losses.isnan())
    found = broken.loss(validate=False, backend=backend)
    assert found.loss.isnan()
    assert found.losses.isnan().tolist() == [False, True]
    if backend != "reference":
        assert broken.gradients(found.loss)[1][1].isnan().all()
        assert broken.gradients(found.loss)[1][0].isfinite().all()


@pytest.mark.parametrize("backend", ALL_BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_more_masked_frames_than_allowed_are_refused_or_give_nan(
    backend: str, reduction: str, device: torch.device
) -> None:
    given = example(device).leaves()
    count = int(given.mask.sum())
    enough = given.loss(reduction=reduction, max_masked=count, backend=backend).loss
    assert torch.equal(enough, given.loss(reduction=reduction, backend=backend).loss)
    for bound in (count - 1, 0):
        with pytest.raises(
            KernelInputError, match=f"selects {count} frames; max_masked is {bound}"
        ):
            given.loss(max_masked=bound, validate=True, backend=backend)
        found = given.loss(reduction=reduction, max_masked=bound, validate=False, backend=backend)
        assert int(found.masked) == count
        wrong = found.loss.isnan()
        assert torch.equal(wrong, given.mask[..., None].expand_as(given.targets)) or (
            reduction != "none" and wrong
        )
        assert all(grad.isnan().any() for grad in given.gradients(found.loss))


def test_backends_are_named_and_refused(device: torch.device) -> None:
    with pytest.raises(BackendError, match="no backend 'cuda'"):
        example(device).loss(backend="cuda")
    assert torch.equal(example(device).loss().loss, example(device).loss(backend="auto").loss)


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_no_frames_have_no_losses(shape: tuple[int, int], device: torch.device) -> None:
    hidden = torch.zeros(*shape, 4, device=device, requires_grad=True)
    weight = torch.zeros(2, 5, 4, device=device, requires_grad=True)
    targets = torch.zeros(*shape, 2, device=device, dtype=torch.int64)
    mask = torch.zeros(shape, device=device, dtype=torch.bool)
    losses = masked_cross_entropy(hidden, weight, None, targets, mask, reduction="none")
    assert losses.shape == (*shape, 2)
    losses.sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_float16_gradients_have_range_at_any_loss_scale(
    reduction: str, device: torch.device
) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 30, 16, device=device)
    weight = torch.randn(1, 200, 16, device=device, requires_grad=True)
    targets = torch.randint(200, (2, 30, 1), device=device)
    mask = torch.ones(2, 30, device=device, dtype=torch.bool)

    def gradient(scale: float, *, half: bool) -> Tensor:
        with torch.autocast(device.type, torch.float16, enabled=half):
            loss = masked_cross_entropy(hidden, weight, None, targets, mask, reduction=reduction)
        return torch.autograd.grad(loss.mean() * scale, weight)[0].double() / scale

    exact = gradient(1.0, half=False)
    for scale in (2.0**-10, 1.0, 2.0**20):
        error = (gradient(scale, half=True) - exact).norm() / exact.norm()
        assert error < 2e-3
