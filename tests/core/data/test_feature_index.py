from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.data.feature_index import FORMAT, INDEX, checksum, read_index, read_shard
from core.errors import DataError
from tests.core.data.feature_folder import array, fill, writer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with writer(tmp_path, dtype="bf16", shard=300) as store:
        fill(store, 0, 6)
        store.finish()
    return tmp_path


def test_the_index_says_what_the_shards_say(folder: Path) -> None:
    index = read_index(folder / INDEX)
    shards = [read_shard(folder / name) for name, _ in index.shards]
    assert [(shard.name, shard.size) for shard in shards] == list(index.shards)
    assert index.ids == tuple(identity for shard in shards for identity in shard.ids)
    assert index.ids == tuple(f"발화{number}" for number in range(6))
    assert np.array_equal(index.shapes, [[8, 5 + number] for number in range(6)])
    assert index.checksums.tolist() == [checksum(array(n).bfloat16()) for n in range(6)]
    assert np.array_equal(index.values, [[number / 7, -1.5] for number in range(6)])
    assert {shard.fingerprint for shard in shards} == {index.fingerprint}


def test_one_changed_bit_changes_the_checksum() -> None:
    values = torch.zeros(4, 6, dtype=torch.bfloat16)
    changed = values.clone()
    changed.view(torch.int16)[3, 5] = 1
    assert checksum(values) != checksum(changed)
    assert checksum(changed.T) == checksum(changed.T.contiguous())


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_file_that_was_cut_off_is_damaged(folder: Path, keep: int) -> None:
    for path, read in (
        (folder / INDEX, read_index),
        (folder / "shard-00000.safetensors", read_shard),
    ):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=f"{path.name} is damaged"):
            read(path)


def test_files_of_another_format_are_refused(folder: Path) -> None:
    index = folder / INDEX
    index.write_bytes(index.read_bytes().replace(FORMAT.encode(), b"sori-features-9"))
    with pytest.raises(DataError, match="'sori-features-9'; expected sori-features-1"):
        read_index(index)
