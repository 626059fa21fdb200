from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.checkpoint.foreign import check_file, read_pickle, read_safetensors, written_whole
from core.errors import CheckpointError

STATE = {"a.weight": torch.arange(6.0).view(2, 3)}


@pytest.mark.parametrize("key", ["model", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_inside_a_training_checkpoint(key: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    whole = {key: STATE, "step": 3, "optimizer": {"lr": 0.1}}
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    found = read_pickle(path, label="x", inside=("model", "state_dict"))
    assert torch.equal(found["a.weight"], STATE["a.weight"])
    with pytest.raises(CheckpointError, match="x is no state dict"):
        read_pickle(path, label="x")


def test_a_tensor_called_like_a_container_is_a_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"model": torch.ones(2)}, path)
    assert read_pickle(path, label="x", inside=("model",))["model"].tolist() == [1, 1]


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.eye(2).to_sparse()}, path)
    with pytest.raises(CheckpointError, match="expected tensors by name, found a"):
        read_pickle(path, label="x")


def test_a_damaged_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_safetensors(path)


def test_a_file_takes_its_place_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.pth"
    with written_whole(path) as made:
        made.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.pth"]


def test_a_file_that_fails_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_text("old")
    with pytest.raises(CheckpointError, match="cannot be written: no space"):
        _fail_half_way(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pth"]


def _fail_half_way(path: Path) -> None:
    with written_whole(path) as made:
        made.write_text("half")
        raise OSError("no space")


def test_what_stands_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(CheckpointError, match="not a file"):
        check_file(tmp_path / "folder.pth", [".pth"])
    with pytest.raises(CheckpointError, match="no folder"):
        check_file(tmp_path / "nowhere" / "x.pth", [".pth"])
    with pytest.raises(CheckpointError, match=r"unknown form '.bin'; expected .* \.pth"):
        check_file(tmp_path / "x.bin", [".pth"])


def test_types_are_tolerated_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": STATE, "where": Path("here")}, path)
    entered: list[Path] = []

    @contextmanager
    def tolerating(file: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
        entered.append(file)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        inert = type("Inert", (), {"__init__": lambda self, *_: None})
        with torch.serialization.safe_globals([(inert, name) for name in names]):
            yield

    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        read_pickle(path, label="x", inside=("state_dict",))
    found: dict[str, Tensor] = read_pickle(
        path, label="x", inside=("state_dict",), tolerating=tolerating
    )
    assert entered == [path]
    assert torch.equal(found["a.weight"], STATE["a.weight"])
