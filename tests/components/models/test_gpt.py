from __future__ import annotations

import numpy as np
import pytest
import torch

from components.models.gpt import in_order, make_gpt, packed
from tests.components.models import oracle


def make(**options: object) -> torch.nn.Module:
    settings = {"dim": 24, "layers": 2, "heads": 3, "dropout": 0.0, "gradient_checkpointing": False}
    torch.manual_seed(0)
    gpt = make_gpt(**(settings | options))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return gpt.double()


def read(gpt: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    states: torch.Tensor = gpt(inputs_embeds=x, use_cache=False).last_hidden_state
    return states


def test_it_equals_loops_without_tables_of_its_own() -> None:
    gpt = make()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    expected = [oracle.gpt(row, oracle.weights_of(gpt), layers=2, heads=3) for row in x.numpy()]
    np.testing.assert_allclose(read(gpt, x).detach().numpy(), np.stack(expected), atol=1e-10)


def test_it_has_the_tensors_of_blocks_and_a_norm_and_no_others() -> None:
    parts = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    modules = [*(f"h.{layer}.{part}" for layer in range(2) for part in parts), "ln_f"]
    assert set(make().state_dict()) == {
        f"{m}.{leaf}" for m in modules for leaf in ("weight", "bias")
    }


def test_the_zero_of_positions_leaves_the_dtype_alone() -> None:
    gpt = make().bfloat16()
    assert read(gpt, torch.randn(1, 3, 24, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_checkpointing_changes_no_gradient() -> None:
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    gradients = []
    for checkpointing in (False, True):
        gpt = make(gradient_checkpointing=checkpointing).train()
        read(gpt, x).square().sum().backward()
        gradients.append([p.grad for p in gpt.parameters()])
    for without, with_ in zip(*gradients, strict=True):
        assert without is not None
        torch.testing.assert_close(with_, without)


def test_checkpointing_keeps_fewer_tensors() -> None:
    counts = []
    for checkpointing in (False, True):
        gpt = make(gradient_checkpointing=checkpointing).train()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t
        ):
            read(gpt, torch.randn(2, 5, 24, dtype=torch.float64))
        counts.append(sum(saved))
    assert counts[1] < counts[0] / 3


@pytest.mark.parametrize("lengths", [[2, 4, 0, 3], [4, 4, 4, 4], [0, 0, 0, 0]])
def test_padding_between_two_streams_goes_last(lengths: list[int]) -> None:
    names = ["p0", "p1", *(f"a{i}" for i in range(4)), *(f"b{i}" for i in range(3))]
    packing = packed(prefix=2, first=4, second=3, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        got = [names[i] for i in packing.order[row].tolist()]
        real = ["p0", "p1", *(f"a{i}" for i in range(length)), "b0", "b1", "b2"]
        assert got == [*real, *(f"a{i}" for i in range(length, 4))]
        assert [got[i] for i in packing.first[row].tolist()] == ["a0", "a1", "a2", "a3"]
        assert [got[i] for i in packing.second[row].tolist()] == ["b0", "b1", "b2"]


def test_rows_are_taken_by_index() -> None:
    x = torch.arange(12.0).view(2, 3, 2)
    taken = in_order(x, torch.tensor([[2, 0], [1, 1]]))
    assert taken.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
