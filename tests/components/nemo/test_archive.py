from __future__ import annotations

import gzip
import io
import pickle
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from components.nemo.archive import opened, write
from core.errors import CheckpointError

STATE = {
    "encoder.x.weight": torch.arange(6.0).view(2, 3),
    "quantizer.codebooks": torch.ones(2).double(),
}
CONFIG = {"encoder": {"d_model": 8}, "target": "a.B"}


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def pickled(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    with opened(path) as content:
        return {name: tensor.clone() for name, tensor in content.state.items()}, content.config


def assert_same(state: dict[str, Tensor]) -> None:
    assert state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize("suffix", [".nemo", ".ckpt", ".pt", ".safetensors"])
def test_what_is_written_is_read_again(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / f"model{suffix}"
    write(path, STATE, CONFIG)
    state, config = read(path)
    assert_same(state)
    assert config == (CONFIG if suffix == ".nemo" else None)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_archive_is_a_tar_as_nemo_writes_it(tmp_path: Path) -> None:
    write(tmp_path / "m.nemo", STATE, CONFIG)
    with tarfile.open(tmp_path / "m.nemo", "r:") as archive:
        assert archive.getnames() == ["./model_config.yaml", "./model_weights.ckpt"]
        text = archive.extractfile("./model_config.yaml")
        weights = archive.extractfile("./model_weights.ckpt")
        assert text is not None
        assert weights is not None
        assert yaml.safe_load(text.read()) == CONFIG
        assert_same(torch.load(io.BytesIO(weights.read()), weights_only=True))


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_archives_of_either_spelling_and_compression(
    prefix: str, mode: str, tmp_path: Path
) -> None:
    members = {
        "../../outside.txt": b"never written",
        "/etc/outside": b"never written",
        f"{prefix}tokenizer.model": b"x",
        f"{prefix}model_config.yaml": yaml.safe_dump(CONFIG).encode(),
        f"{prefix}model_weights.ckpt": pickled(STATE),
    }
    path = tar(tmp_path / "m.nemo", members, mode)
    state, config = read(path)
    assert_same(state)
    assert config == CONFIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.nemo"]


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_with_a_state_dict_inside_and_of_old_form(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    whole = {"state_dict": STATE, "epoch": 3, "hyper_parameters": {"lr": 0.1}}
    path.write_bytes(pickled(whole, _use_new_zipfile_serialization=zipped))
    assert_same(read(path)[0])


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Objects that pickle as a configuration library's do; the library is not here when read."""
    module = types.ModuleType("omegaconf.dictconfig")

    def make() -> object:
        kind = type("DictConfig", (), {"__module__": module.__name__})
        module.DictConfig = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        made = kind()
        made.__dict__.update(content={"lr": 0.1}, annotation=Any, kind=dict)
        return made

    return make


@pytest.mark.parametrize("attacked", [False, True])
def test_settings_in_a_training_checkpoint_are_passed_over_and_nothing_else_is(
    attacked: bool,
    settings: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    trace = tmp_path / "trace"
    whole = {"state_dict": STATE, "hyper_parameters": {"cfg": settings()}}
    path = tmp_path / "m.ckpt"
    path.write_bytes(pickled(whole | ({"x": Attack(trace)} if attacked else {})))
    monkeypatch.delitem(sys.modules, "omegaconf.dictconfig")
    if not attacked:
        assert_same(read(path)[0])
        return
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        read(path)
    assert not trace.exists()


@pytest.mark.parametrize("form", ["nemo", "ckpt", "old", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(form: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    attack = {**STATE, "x": Attack(trace)}
    content = pickled(attack, _use_new_zipfile_serialization=form != "old")
    if form == "plain pickle":
        content = pickle.dumps(attack)
    path = tmp_path / "m.ckpt"
    path.write_bytes(content)
    if form == "nemo":
        path = tar(tmp_path / "m.nemo", {"model_weights.ckpt": content})
    with pytest.raises(CheckpointError, match=r"more than tensors and plain values|damaged"):
        read(path)
    assert not trace.exists()


def test_a_configuration_that_would_run_code_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    text = f"x: !!python/object/apply:os.mknod ['{trace}']"
    members = {"model_config.yaml": text.encode(), "model_weights.ckpt": pickled(STATE)}
    with pytest.raises(CheckpointError, match=r"model_config\.yaml is not plain YAML"):
        read(tar(tmp_path / "m.nemo", members))
    assert not trace.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    with tarfile.open(path, "w:") as archive:
        member = tarfile.TarInfo("model_weights.ckpt")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(CheckpointError, match="link or a device"):
        read(path)


def test_absurd_sizes_are_refused_before_anything_is_copied(tmp_path: Path) -> None:
    member = tarfile.TarInfo("model_weights.ckpt")
    member.size = 1 << 50
    path = tmp_path / "m.nemo"
    path.write_bytes(member.tobuf() + bytes(4096))
    with pytest.raises(CheckpointError, match=r"declares 1,125,899,906,842,624 bytes|damaged"):
        read(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    members = {"model_weights.ckpt": pickled(STATE), "./model_weights.ckpt": pickled({})}
    with pytest.raises(CheckpointError, match="twice"):
        read(tar(tmp_path / "m.nemo", members))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.nemo", b"no archive", "not a NeMo archive, or damaged"),
        ("m.nemo", gzip.compress(b"no archive", mtime=0), "not a NeMo archive, or damaged"),
        ("m.ckpt", b"no checkpoint", "damaged|more than tensors"),
        ("m.ckpt", pickled([1, 2]), "holds a list; expected tensors by name"),
        ("m.ckpt", pickled({}), "no state dict: expected tensors by name, found nothing"),
        ("m.ckpt", pickled({"a": 1}), "no state dict: expected tensors by name, found a"),
        ("m.safetensors", b"no tensors at all", "cannot be read"),
        ("m.onnx", b"", "unknown form '.onnx'; expected a file that ends in one of .nemo"),
    ],
)
def test_what_is_no_file_of_weights_says_so(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_archives_without_weights_or_cut_short(tmp_path: Path) -> None:
    path = tar(tmp_path / "m.nemo", {"model_weights/0.0": b"x"})
    with pytest.raises(CheckpointError, match=r"holds no model_weights\.ckpt"):
        read(path)
    write(path, STATE, CONFIG)
    cut = tmp_path / "cut.nemo"
    cut.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match=r"cut\.nemo"):
        read(cut)


def test_missing_files_name_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "model.nemo", STATE, CONFIG)
    with pytest.raises(CheckpointError, match=r"did you mean 'model\.nemo'"):
        read(tmp_path / "modle.nemo")
    with pytest.raises(CheckpointError, match="no folder"):
        read(tmp_path / "nowhere" / "x.nemo")


def test_a_failed_write_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file(STATE, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="dense tensor"):
        write(path, {"x": torch.ones(2, 2).to_sparse()}, {})
    assert path.read_bytes() == before
