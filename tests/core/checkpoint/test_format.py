from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from core.checkpoint import format as fmt
from core.checkpoint.format import (
    read_ema,
    read_inference_model,
    read_meta,
    read_model,
    read_optimizer,
    read_state,
    verify,
    write_checkpoint,
)
from core.errors import CheckpointError


def save(directory: Path, name: str = "one", **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "model": {"layer.weight": torch.arange(6.0).view(2, 3)},
        "ema": None,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]},
        "state": {"step": 7},
        "assets": None,
        "config_dir": None,
        "meta": {"step": 7, "epoch": 1},
    }
    return write_checkpoint(directory, name, **(arguments | changes))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.output = nn.Linear(4, 5, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("scratch", torch.zeros(3), persistent=False)
        self.register_buffer("mean", torch.ones(3))


def test_every_part_reads_back_equal(tmp_path: Path) -> None:
    path = save(tmp_path, ema={"layer.weight": torch.full((2, 3), 9.0)})

    verify(path, hashes=True)
    torch.testing.assert_close(read_model(path)["layer.weight"], torch.arange(6.0).view(2, 3))
    assert read_ema(path)["layer.weight"].eq(9).all()
    assert read_inference_model(path)["layer.weight"].eq(9).all()
    assert read_optimizer(path)["state"][0]["exp_avg"].eq(1).all()
    assert read_state(path) == {"step": 7}
    meta = read_meta(path)
    assert (meta["step"], meta["epoch"], meta["format"]) == (7, 1, fmt.FORMAT)
    assert set(meta["files"]) == {fmt.MODEL, fmt.EMA, fmt.OPTIMIZER, fmt.STATE}


def test_weights_load_with_safetensors_and_torch_alone(tmp_path: Path) -> None:
    model = Tied()
    path = save(tmp_path, model=model.state_dict())

    weights = safetensors.torch.load_file(path / fmt.MODEL)

    assert set(weights) == {"embedding.weight", "output.weight", "mean"}
    fresh = Tied()
    fresh.load_state_dict(weights, strict=True)
    assert fresh.output.weight is fresh.embedding.weight
    assert torch.equal(fresh.embedding.weight, model.embedding.weight)


def test_views_transposes_dtypes_and_scalars_keep_their_values(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    model = {
        "first rows": base[:3],
        "last rows": base[3:],
        "transposed": base.t(),
        "half": torch.randn(5).to(torch.bfloat16),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "mask": torch.tensor([True, False]),
    }

    loaded = read_model(save(tmp_path, model=model))

    for name, value in model.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value), name


def test_optimizer_continues_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    def trained(steps: int, layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            layer(torch.full((1, 4), float(step))).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    trained(3, layer, optimizer)
    path = save(tmp_path, model=layer.state_dict(), optimizer=optimizer.state_dict())
    trained(3, layer, optimizer)

    other = nn.Linear(4, 4)
    other.load_state_dict(read_model(path))
    resumed = torch.optim.AdamW(other.parameters(), lr=0.5)
    resumed.load_state_dict(read_optimizer(path))
    trained(3, other, resumed)

    assert torch.equal(other.weight, layer.weight)


def test_state_of_numpy_and_subclasses_becomes_plain(tmp_path: Path) -> None:
    class Kind(IntEnum):
        ONE = 1

    nested: defaultdict[str, list[Any]] = defaultdict(list)
    nested["words"].append(np.arange(3, dtype=np.uint32))
    state = {
        "nested": nested,
        "gauss": np.float64(0.1),
        "kind": Kind.ONE,
        "pair": (1, None),
        "flags": {True},
        "parameter": nn.Parameter(torch.ones(2)),
        5: b"bytes",
    }

    read = read_state(save(tmp_path, state=state))

    assert read["nested"]["words"][0].tolist() == [0, 1, 2]
    assert (read["gauss"], read["kind"], read["pair"]) == (0.1, 1, (1, None))
    assert type(read["kind"]) is int
    assert read["flags"] == {True}
    assert read[5] == b"bytes"
    assert not isinstance(read["parameter"], nn.Parameter)


def test_a_view_does_not_drag_its_storage_into_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, state={"row": torch.zeros(1000, 1000)[0]})

    assert (path / fmt.STATE).stat().st_size < 100_000


def test_what_cannot_be_stored_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state\.callbacks\.hook is a builtins\.function"):
        save(tmp_path, state={"callbacks": {"hook": lambda: None}})
    with pytest.raises(CheckpointError, match=r"model\['extra'\] is a dict"):
        save(tmp_path, model={"extra": {}})
    assert list(tmp_path.iterdir()) == []


def test_assets_and_configs_are_copied_and_sealed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "assets" / "tokenizer").mkdir(parents=True)
    (run / "assets" / "tokenizer" / "vocab.txt").write_text("a\nb\n")
    (run / "config.json").write_text("{}")
    (run / "config.txt").write_text("seed: 0\n")

    path = save(tmp_path / "checkpoints", assets=run / "assets", config_dir=run)

    files = read_meta(path)["files"]
    assert {"assets/tokenizer/vocab.txt", "config.json", "config.txt"} <= set(files)
    assert (path / "assets" / "tokenizer" / "vocab.txt").read_text() == "a\nb\n"
    (path / "assets" / "tokenizer" / "vocab.txt").write_text("a\nc\n")
    with pytest.raises(CheckpointError, match=r"assets/tokenizer/vocab\.txt was altered"):
        verify(path, hashes=True)


def test_each_damage_is_named(tmp_path: Path) -> None:
    path = save(tmp_path)
    whole = (path / fmt.MODEL).read_bytes()

    (path / fmt.MODEL).write_bytes(whole[:-1])
    with pytest.raises(
        CheckpointError, match=r"model.safetensors is truncated: \d+ bytes, expected"
    ):
        verify(path)
    (path / fmt.MODEL).write_bytes(whole + b"x")
    with pytest.raises(CheckpointError, match=r"model.safetensors is too long"):
        verify(path)
    (path / fmt.MODEL).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    verify(path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered"):
        verify(path, hashes=True)
    verify(path, hashes=True, only=[fmt.STATE])
    (path / fmt.MODEL).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        verify(path)


def test_any_changed_character_of_meta_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path)
    text = (path / fmt.META).read_text()

    (path / fmt.META).write_text(text.replace('"step": 7', '"step": 8'))
    with pytest.raises(CheckpointError, match=r"meta\.json was altered"):
        read_meta(path)
    (path / fmt.META).write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match=r"meta\.json is damaged"):
        read_meta(path)
    (path / fmt.META).unlink()
    with pytest.raises(CheckpointError, match=r"meta.json is missing \(half-written\)"):
        read_meta(path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_meta(tmp_path / "nothing")


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "FORMAT", 2)
    path = save(tmp_path)
    monkeypatch.setattr(fmt, "FORMAT", 1)

    with pytest.raises(CheckpointError, match="has format 2, written by a newer version"):
        read_meta(path)


def test_saving_again_under_a_name_replaces_it_whole(tmp_path: Path) -> None:
    save(tmp_path, ema={"layer.weight": torch.zeros(1)})
    path = save(tmp_path, state={"step": 8})

    verify(path, hashes=True)
    assert read_state(path) == {"step": 8}
    assert not (path / fmt.EMA).exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = save(tmp_path)
    marker = tmp_path / "executed"
    torch.save({"step": 1, "attack": Malicious(marker)}, path / fmt.STATE)
    torch.save({"state": Malicious(marker)}, path / fmt.OPTIMIZER)

    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        read_state(path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        read_optimizer(path)
    assert not marker.exists()
    torch.load(path / fmt.STATE, weights_only=False)
    assert marker.exists(), "the attack would not have worked, so it proves nothing"


def test_truncated_files_raise_the_typed_error(tmp_path: Path) -> None:
    path = save(tmp_path)
    for file in (fmt.MODEL, fmt.OPTIMIZER, fmt.STATE):
        content = (path / file).read_bytes()
        (path / file).write_bytes(content[: len(content) // 2])

    for read in (read_model, read_optimizer, read_state):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_leaves_earlier_checkpoints(small_disk: Path) -> None:
    first = save(small_disk, "first")
    big = {"weight": torch.zeros(2_000_000)}

    with pytest.raises(CheckpointError, match=r"cannot write checkpoint second .* 8\.0 MB .* free"):
        save(small_disk, "second", model=big)

    assert [entry.name for entry in small_disk.iterdir()] == ["first"]
    verify(first, hashes=True)


def test_a_disk_that_fills_up_while_writing(small_disk: Path, tmp_path: Path) -> None:
    first = save(small_disk, "first")
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "large.bin").write_bytes(bytes(5_000_000))

    with pytest.raises(CheckpointError, match="No space left on device"):
        save(small_disk, "second", assets=assets)

    assert [entry.name for entry in small_disk.iterdir()] == ["first"]
    verify(first, hashes=True)


ROOT = Path(__file__).resolve().parents[3]
LIMITED = """
import resource, sys
from pathlib import Path
import torch
from core.checkpoint.format import write_checkpoint
from core.errors import CheckpointError
big, small = torch.zeros(500_000), torch.zeros(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
for name, model, optimizer in (("a", big, small), ("b", small, big)):
    try:
        write_checkpoint(
            Path(sys.argv[1]), name, model={"w": model}, ema=None, optimizer={"w": optimizer},
            state={}, assets=None, config_dir=None, meta={},
        )
    except CheckpointError as error:
        print(error)
"""


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    first = save(tmp_path, "first")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    messages = done.stdout.splitlines()
    assert len(messages) == 2, done
    assert all("cannot write checkpoint" in message for message in messages), messages
    assert [entry.name for entry in tmp_path.iterdir()] == ["first"]
    verify(first, hashes=True)


def test_killed_at_random_the_newest_or_the_one_before_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.core.checkpoint.writer", str(tmp_path), "10", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    trials = json.loads(done.stdout)

    assert len(trials) == 10
    for trial in trials:
        assert trial["killed"] == signal.SIGKILL
        assert trial["said"] == [], "an unfinished write took the name of a checkpoint"
        # One more than was reported, when the kill came between the rename and the report.
        assert trial["loaded"] in (trial["completed"], trial["completed"] + 1)
        assert trial["values"] == [float(trial["loaded"])]
