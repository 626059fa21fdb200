from __future__ import annotations

import torch

from kernels.chunks import rows_per_chunk

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_default_goes_by_the_device() -> None:
    assert rows_per_chunk(1 << 10, CPU, None) == 8 << 10
    assert rows_per_chunk(1 << 10, CPU, None, cpu_bytes=1 << 20) == 1 << 10
    assert rows_per_chunk(1 << 10, CUDA, None, cpu_bytes=1 << 20) == 128 << 10


def test_a_default_gives_way_to_the_least_number_of_rows() -> None:
    assert rows_per_chunk(4 << 20, CPU, None, least=32) == 32
    assert rows_per_chunk(1 << 40, CUDA, None) == 1
    assert rows_per_chunk(1 << 40, CUDA, None, least=0) == 1


def test_a_given_budget_is_kept_down_to_one_row() -> None:
    assert rows_per_chunk(100, CPU, 1000, least=32) == 10
    assert rows_per_chunk(100, CPU, 1, least=32) == 1
