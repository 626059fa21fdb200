from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from core.data.feature_index import DTYPES, INDEX, StoredDtype
from core.data.feature_shards import FeatureReader
from core.data.fingerprint import Fingerprint, FingerprintError
from core.errors import DataError
from tests.core.data.feature_folder import SETTINGS, array, fill, writer

COUNT = 12


def made(folder: Path, *, dtype: StoredDtype = "float32") -> Path:
    with writer(folder, dtype=dtype) as store:
        fill(store, 0, COUNT)
        store.finish()
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_arrays_come_back_in_any_order(tmp_path: Path, dtype: StoredDtype) -> None:
    reader = FeatureReader(folder=made(tmp_path, dtype=dtype), expected=SETTINGS)
    assert len(reader) == COUNT
    for number in torch.randperm(COUNT).tolist():
        identity = f"발화{number}"
        assert identity in reader
        assert torch.equal(reader.read(identity), array(number).to(DTYPES[dtype]))
        assert reader.shape(identity) == (8, 5 + number)
        assert reader.values(identity) == {"seconds": number / 7, "fill": -1.5}
    assert reader.total("fill") == -1.5 * COUNT
    assert reader.damaged() == []


def test_a_reader_travels_to_other_processes(tmp_path: Path) -> None:
    reader = FeatureReader(folder=made(tmp_path))
    reader.read("발화3")
    copy = pickle.loads(pickle.dumps(reader))
    assert torch.equal(copy.read("발화3"), array(3))


def test_the_nearest_id_is_named(tmp_path: Path) -> None:
    reader = FeatureReader(folder=made(tmp_path))
    with pytest.raises(DataError, match=r"no features of '발화111' .*did you mean"):
        reader.read("발화111")


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(FingerprintError, match="rule: 'none' there, 'trim' expected"):
        FeatureReader(folder=tmp_path, expected=Fingerprint(fields={"bins": 8, "rule": "trim"}))
    store = {"dtype": "bf16", "values": ["seconds", "fill"]}
    with pytest.raises(FingerprintError, match=r"store\.dtype: 'float32' there, 'bf16' expected"):
        FeatureReader(
            folder=tmp_path, expected=Fingerprint(fields={**SETTINGS.fields, "store": store})
        )


def test_a_missing_or_shortened_shard_is_found_on_opening(tmp_path: Path) -> None:
    path = made(tmp_path) / "shard-00001.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"has {len(content) - 1:,} bytes; expected"):
        FeatureReader(folder=tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        FeatureReader(folder=tmp_path)


def test_changed_bytes_are_found_by_their_checksum(tmp_path: Path) -> None:
    path = made(tmp_path) / "shard-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    reader = FeatureReader(folder=tmp_path)
    assert len(reader.damaged()) == 1


def test_shards_of_another_folder_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "a")
    other = tmp_path / "b"
    made(other, dtype="bf16")
    (tmp_path / "a" / INDEX).write_bytes((other / INDEX).read_bytes())
    with pytest.raises(DataError, match=r"index\.safetensors does not belong to fingerprint\.json"):
        FeatureReader(folder=tmp_path / "a")


def test_a_shard_with_other_arrays_of_the_same_size_is_found_on_reading(tmp_path: Path) -> None:
    for name, number in (("a", 0), ("b", 1)):
        with writer(tmp_path / name) as store:
            store.add(f"id{number}", array(0), {"seconds": 1.0, "fill": 0.0})
            store.finish()
    (tmp_path / "b/shard-00000.safetensors").replace(tmp_path / "a/shard-00000.safetensors")
    reader = FeatureReader(folder=tmp_path / "a")
    with pytest.raises(DataError, match="is damaged: 'id0'"):
        reader.read("id0")
