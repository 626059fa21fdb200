from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.data.feature_index import shard_metadata
from core.data.feature_map import MappedShard, as_bits, from_bits
from core.errors import DataError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arrays_are_those_of_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    arrays = {f"말{n}": torch.randn(3, n, generator=generator).to(dtype) for n in (1, 4, 7)}
    metadata = shard_metadata(fingerprint="f", ids=list(arrays), checksums=[0] * 3, values=[])
    save_file(arrays, tmp_path / "s.safetensors", metadata)
    shard = MappedShard(tmp_path / "s.safetensors")
    assert shard.metadata["fingerprint"] == "f"
    for name, array in arrays.items():
        assert torch.equal(from_bits(shard[name]), array)
        assert from_bits(shard[name]).dtype == dtype
    with pytest.raises(KeyError):
        shard["없음"]


def test_bits_share_memory_with_the_tensor() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.zeros(2, 3, dtype=dtype)
        as_bits(tensor)[1] = as_bits(torch.full((3,), 1.5, dtype=dtype))
        assert tensor.tolist() == [[0, 0, 0], [1.5, 1.5, 1.5]]


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "s.safetensors")
    with pytest.raises(DataError, match="format is None"):
        MappedShard(tmp_path / "s.safetensors")
