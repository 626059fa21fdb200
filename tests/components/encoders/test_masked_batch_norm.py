from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from components.encoders.masked_batch_norm import MaskedBatchNorm
from components.encoders.masks import valid_frames

LENGTHS = (7, 3, 0, 5)


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 7, 3, generator=generator, dtype=torch.float64) * 2 + 50
    return x.requires_grad_(), valid_frames(torch.tensor(LENGTHS), 7)


def build() -> MaskedBatchNorm:
    norm = MaskedBatchNorm(dim=3).double()
    norm.weight.data = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    norm.bias.data = torch.tensor([0.1, 0.0, -3.0], dtype=torch.float64)
    return norm


def test_equals_torch_on_the_real_frames() -> None:
    x, valid = example()
    norm = build()
    reference = nn.BatchNorm1d(3).double()
    reference.load_state_dict(norm.state_dict(), strict=False)
    y = norm(x, valid)[valid]
    (y**3).sum().backward()
    x_reference = x.detach().clone().requires_grad_()
    expected = reference(x_reference[valid])
    (expected**3).sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, x_reference.grad)
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad)
    torch.testing.assert_close(norm.bias.grad, reference.bias.grad)
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    torch.testing.assert_close(norm.running_var, reference.running_var)
    norm.eval()
    reference.eval()
    torch.testing.assert_close(norm(x, valid)[valid], reference(x[valid]))


def test_over_all_frames_it_is_the_layer_of_torch() -> None:
    x, valid = example()
    norm = MaskedBatchNorm(dim=3, over="all_frames").double()
    reference = nn.BatchNorm1d(3).double()
    y = norm(x, valid)
    (y**3).sum().backward()
    x_reference = x.detach().clone().requires_grad_()
    expected = reference(x_reference.transpose(1, 2)).transpose(1, 2)
    (expected**3).sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, x_reference.grad)
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad)
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    torch.testing.assert_close(norm.running_var, reference.running_var)


def test_gradient_is_the_derivative_even_where_padding_is_used() -> None:
    x, valid = example()
    norm = build()
    assert torch.autograd.gradcheck(lambda value: norm(value, valid), (x,))


def test_batches_without_statistics_leave_the_running_ones() -> None:
    norm = build()
    for lengths in ([0, 0], [1, 0]):
        y = norm(torch.randn(2, 4, 3).double(), valid_frames(torch.tensor(lengths), 4))
        assert y.isfinite().all()
    assert norm.running_mean.tolist() == [0.0] * 3
    assert norm.running_var.tolist() == [1.0] * 3


def test_half_precision_activations_have_float32_statistics() -> None:
    norm = MaskedBatchNorm(dim=1)
    x = 1000 + torch.arange(64.0).view(1, 64, 1).bfloat16()
    y = norm(x.bfloat16(), torch.ones(1, 64, dtype=torch.bool))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean().view(1))


def test_compiled_gradient_equals_the_plain_one() -> None:
    x, valid = example()
    results = []
    for compiled in (False, True):
        norm = build()
        run = torch.compile(norm, backend="eager", fullgraph=True) if compiled else norm
        x.grad = None
        (run(x, valid) ** 3).sum().backward()
        results.append([x.grad, norm.weight.grad, norm.bias.grad, norm.running_var])
    for plain, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, plain)


def rank_main(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    x, valid = example()
    rows = slice(0, 1) if rank == 0 else slice(1, 4)  # ranks of unequal weight
    mine = x.detach()[rows].clone().requires_grad_()
    norm = build()
    norm.synchronise = True
    y = norm(mine, valid[rows])
    (y[valid[rows]] ** 3).sum().backward()
    for parameter in norm.parameters():
        dist.all_reduce(parameter.grad)
    result = {"y": y.detach(), "x": mine.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    torch.save(result | {"mean": norm.running_mean, "var": norm.running_var}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    mp.spawn(rank_main, args=(str(tmp_path),), nprocs=2)
    x, valid = example()
    norm = build()
    y = norm(x, valid)
    (y[valid] ** 3).sum().backward()
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([rank["y"] for rank in ranks]), y.detach())
    torch.testing.assert_close(torch.cat([rank["x"] for rank in ranks]), x.grad)
    for rank in ranks:
        torch.testing.assert_close(rank["weight"], norm.weight.grad)
        torch.testing.assert_close(rank["bias"], norm.bias.grad)
        torch.testing.assert_close(rank["mean"], norm.running_mean)
        torch.testing.assert_close(rank["var"], norm.running_var)
