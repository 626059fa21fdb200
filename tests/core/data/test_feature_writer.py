from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.data.feature_index import INDEX
from core.data.feature_shards import FeatureReader
from core.data.feature_writer import FeatureWriter
from core.data.fingerprint import Fingerprint, FingerprintError
from core.errors import DataError
from tests.core.data.feature_folder import array, fill, writer
from tests.fixtures.file_size import files_of_at_most

VALUES = {"seconds": 1.0, "fill": 0.0}
REPO = Path(__file__).resolve().parents[3]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_a_shard_is_finished_as_soon_as_it_has_its_size(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        fill(store, 0, 12)
        store.finish()
    sizes = [
        sum(reader_bytes) for reader_bytes in _array_bytes(FeatureReader(folder=tmp_path)).values()
    ]
    assert len(sizes) > 3
    assert all(size >= 1000 for size in sizes[:-1])
    assert all(size - 4 * 8 * 16 < 1000 for size in sizes)
    modes = {path.stat().st_mode for path in tmp_path.glob("*.safetensors")}
    assert modes == {(tmp_path / "fingerprint.json").stat().st_mode}


def _array_bytes(reader: FeatureReader) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for number, identity in enumerate(reader.ids):
        place = int(reader._index.shard[number])
        found.setdefault(place, []).append(reader.read(identity).nbytes)
    return found


def test_what_was_interrupted_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    with writer(tmp_path / "whole") as store:
        fill(store, 0, 12)
        store.finish()
    with writer(tmp_path / "parts") as store:
        fill(store, 0, 7)  # ends without finish, in the middle of a shard
    with writer(tmp_path / "parts") as store:
        assert 0 < len(store) < 7
        fill(store, 0, 12)
        store.finish()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_process_killed_in_the_middle_leaves_whole_shards(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.core.data.feature_folder import writer, fill\n"
        "import core.data.feature_writer as module\n"
        "store = writer(Path(sys.argv[1])); fill(store, 0, 8)\n"
        "module.seal = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fill(store, 8, 40)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], env=environment)
    assert killed.returncode == -9
    assert list((tmp_path / "a").glob(".tmp-*")), "it died while a shard was being written"
    with pytest.raises(DataError, match="make or finish it"):
        FeatureReader(folder=tmp_path / "a")
    for name in "ab":
        with writer(tmp_path / name) as store:
            fill(store, 0, 12)
            store.finish()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not list((tmp_path / "a").glob(".tmp-*"))
    assert FeatureReader(folder=tmp_path / "a").damaged() == []


def test_a_shard_that_was_removed_is_filled_in(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        fill(store, 0, 12)
        store.finish()
    (tmp_path / "shard-00001.safetensors").unlink()
    with writer(tmp_path) as store:
        fill(store, 0, 12)
        store.finish()
    reader = FeatureReader(folder=tmp_path)
    assert sorted(reader.ids) == sorted(f"발화{number}" for number in range(12))
    assert all(torch.equal(reader.read(f"발화{n}"), array(n)) for n in range(12))


@pytest.mark.parametrize(
    ("identity", "features", "fault"),
    [
        ("발화0", torch.ones(2, 2), "stored already"),
        ("new", torch.ones(2, 0), r"shape \(2, 0\)"),
        ("new", torch.ones(0, 2), "not empty"),
        ("new", torch.ones(4), "two dimensions"),
        ("new", torch.tensor([[1.0, float("nan")]]), "not finite"),
        ("new", torch.ones(2, 2, dtype=torch.int64), "not finite floating-point"),
        ("", torch.ones(2, 2), "cannot be the name"),
        ("__metadata__", torch.ones(2, 2), "cannot be the name"),
    ],
)
@pytest.mark.parametrize("flushed", [False, True])
def test_what_cannot_be_stored_is_refused_with_the_reason(
    tmp_path: Path, identity: str, features: torch.Tensor, fault: str, flushed: bool
) -> None:
    with writer(tmp_path, shard=1 if flushed else 10_000) as store:
        fill(store, 0, 1)
        with pytest.raises(DataError, match=fault):
            store.add(identity, features, VALUES)
        store.finish()
    assert FeatureReader(folder=tmp_path).ids == ("발화0",)


def test_values_without_a_name_are_refused(tmp_path: Path) -> None:
    with writer(tmp_path) as store, pytest.raises(DataError, match=r"\['fill'\]; expected"):
        store.add("a", array(0), {"fill": 1.0})


def test_other_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        fill(store, 0, 3)
        store.finish()
    before = contents(tmp_path)
    with pytest.raises(FingerprintError, match="bins: 8 there, 80 expected"):
        FeatureWriter(folder=tmp_path, fingerprint=Fingerprint(fields={"bins": 80, "rule": "none"}))
    with pytest.raises(FingerprintError, match=r"store\.dtype: 'float32' there, 'bf16' expected"):
        writer(tmp_path, dtype="bf16")
    assert contents(tmp_path) == before


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with writer(tmp_path), pytest.raises(DataError, match="another process is writing"):
        writer(tmp_path)
    with writer(tmp_path) as store, pytest.raises(DataError, match="there is not one"):
        store.finish()


def test_a_damaged_shard_is_named_and_not_gone_on_from(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        fill(store, 0, 12)
        store.finish()
    (tmp_path / INDEX).unlink()
    path = tmp_path / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"shard-00001\.safetensors is damaged"):
        writer(tmp_path)


def test_a_shard_that_does_not_fit_on_the_disk_is_said_and_leaves_none(tmp_path: Path) -> None:
    with writer(tmp_path, shard=10_000_000) as store:
        fill(store, 0, 1)
        with files_of_at_most(100), pytest.raises(DataError, match="File too large") as caught:
            store.finish()
    assert f"{tmp_path / 'shard-00000.safetensors'} cannot be written" in str(caught.value)
    assert not list(tmp_path.glob("**/*.safetensors"))
