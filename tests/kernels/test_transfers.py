from __future__ import annotations

import torch

from kernels.transfers import to_device


def test_values_arrive(device: torch.device) -> None:
    values = torch.arange(5)
    found = to_device(values, device)
    assert found.device.type == device.type
    assert torch.equal(found.cpu(), values)


def test_what_is_there_is_not_copied(device: torch.device) -> None:
    values = torch.arange(5, device=device)
    assert to_device(values, values.device) is values


def test_only_cuda_copies_from_pinned_memory() -> None:
    assert to_device(torch.arange(5), torch.device("meta")).is_meta
