from __future__ import annotations

import pytest
import torch

from components.adversary.buffered_adamw import BufferedAdamW


def test_it_moves_as_torch_does() -> None:
    torch.manual_seed(0)
    ours = [torch.randn(3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]
    theirs = [value.clone().requires_grad_() for value in ours]
    optimizer = BufferedAdamW(lr=0.03, weight_decay=0.1)
    optimizer.setup(ours)
    reference = torch.optim.AdamW(
        [{"params": [theirs[0]], "weight_decay": 0.1}, {"params": [theirs[1]], "weight_decay": 0}],
        lr=0.03,
    )
    for _ in range(20):
        gradients = [torch.randn_like(value) for value in ours]
        for value, gradient in zip(theirs, gradients, strict=True):
            value.grad = gradient.clone()
        reference.step()
        optimizer.update(ours, gradients)
    for value, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("at", [0, 3])
def test_state_continues_bit_by_bit(at: int) -> None:
    gradients = [torch.randn(2, 2) for _ in range(8)]

    def run(optimizer: BufferedAdamW, value: torch.Tensor, part: slice) -> torch.Tensor:
        for gradient in gradients[part]:
            optimizer.update([value], [gradient])
        return value

    def make() -> BufferedAdamW:
        made = BufferedAdamW(lr=0.1)
        made.setup([torch.zeros(2, 2)])
        return made

    whole = run(make(), torch.zeros(2, 2), slice(None))
    first, second = make(), make()
    value = run(first, torch.zeros(2, 2), slice(at))
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(second, value, slice(at, None)), whole)


def test_reset_forgets() -> None:
    optimizer = BufferedAdamW(lr=0.1)
    value = torch.zeros(2, 2)
    optimizer.setup([value])
    optimizer.update([value], [torch.ones(2, 2)])
    optimizer.reset()
    assert not any(bool(buffer.any()) for buffer in optimizer.buffers())
