from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components.indextts.weights import IndexTTSWeights
from core.errors import CheckpointError, ConfigError
from core.train.initial import open_weights
from tests.components.indextts.test_transfer import Task, assert_holds, checkpoint
from tests.components.models.published import shapes
from tests.components.models.tiny import TINY, make_model


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("inside", [None, "model"])
def test_a_published_checkpoint_goes_in_and_out_bit_by_bit(
    suffix: str, inside: str | None, tmp_path: Path
) -> None:
    state = checkpoint()
    source, target = tmp_path / "gpt.pth", tmp_path / "out" / f"gpt{suffix}"
    torch.save({inside: state, "epoch": 3, "step": 7} if inside else state, source)
    task = Task(make_model())
    IndexTTSWeights(location=str(source)).load(task)
    lines = IndexTTSWeights(location=str(target)).save(task)
    parameters = sum(p.numel() for p in task.model.parameters())
    assert lines[0] == f"{target}: IndexTTS2"
    assert lines[1:3] == [
        f"{len(state)} tensors, {parameters:,} parameters",
        "left out: classifier",
    ]
    again = make_model(seed=1)
    IndexTTSWeights(location=str(target)).load(again)
    assert_holds(again, state)


def test_what_is_written_is_what_a_strict_reader_expects(tmp_path: Path) -> None:
    path = tmp_path / "gpt.pth"
    IndexTTSWeights(location=str(path)).save(Task(make_model()))
    found = torch.load(path, weights_only=True)
    assert type(found) is dict
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes(**TINY)


def test_the_export_says_what_inference_must_be_told(tmp_path: Path) -> None:
    lines = IndexTTSWeights(location=str(tmp_path / "gpt.pth")).save(make_model())
    assert "its config.yaml needs gpt.model_dim: 64" in lines
    assert "its config.yaml needs gpt.number_mel_codes: 130" in lines
    assert "its config.yaml needs gpt.emo_condition_module.output_size: 32" in lines
    assert (
        "stock inference does not load it: emotion_features is 20, and its code fixes 1024" in lines
    )
    assert not any("dropout" in line or "max_text_tokens: 600" in line for line in lines)


def test_it_is_named_by_a_uri(tmp_path: Path) -> None:
    made = open_weights(
        f"indextts:{tmp_path}/gpt.pth?fresh=emo_layer, emovec_layer&resize_vocabulary=true"
    )
    assert isinstance(made, IndexTTSWeights)
    assert made.choices.fresh == ("emo_layer", "emovec_layer")
    assert made.choices.resize_vocabulary
    assert made.choices.ignore == ()
    with pytest.raises(ConfigError, match="unknown option 'frsh'; did you mean 'fresh'"):
        open_weights("indextts:gpt.pth?frsh=x")


def test_the_options_of_the_uri_reach_the_transfer(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "gpt.pth")
    model = make_model(emotion_features=40, text_vocab=70)
    options = "fresh=emo_conditioning_encoder.embed&resize_vocabulary=true"
    report = open_weights(f"indextts:{tmp_path}/gpt.pth?{options}").load(model)
    assert "emo_conditioning_encoder.embed" in report.fresh
    assert any(note.startswith("resized text_head.weight: 65 rows") for note in report.notes)


def test_replacing_a_file_is_told(tmp_path: Path) -> None:
    weights = IndexTTSWeights(location=str(tmp_path / "gpt.pth"))
    assert "former" not in weights.save(make_model())[0]
    assert weights.save(make_model())[0].endswith(", in place of the former file")
    assert [entry.name for entry in tmp_path.iterdir()] == ["gpt.pth"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(zipped: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "gpt.pth"
    state = {**checkpoint(), "x": Attack(trace)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        IndexTTSWeights(location=str(path)).load(make_model())
    assert not trace.exists()


def broken(kind: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint(), buffer)
    whole = buffer.getvalue()
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"<html>not found</html>",
        "list": pickle.dumps([1, 2, 3]),
        "no tensors": _saved({"model": {"x": 3}}),
        "nothing": _saved({}),
    }[kind]


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "list", "no tensors", "nothing"])
def test_damaged_files_are_refused_and_nothing_is_loaded(kind: str, tmp_path: Path) -> None:
    path, model = tmp_path / "gpt.pth", make_model()
    path.write_bytes(broken(kind))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"gpt\.pth"):
        IndexTTSWeights(location=str(path)).load(model)
    assert_holds(model, before)


def test_files_that_are_not_there_or_of_another_form(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "gpt.pth")
    with pytest.raises(CheckpointError, match=r"no such file; did you mean 'gpt\.pth'"):
        IndexTTSWeights(location=str(tmp_path / "gtp.pth")).load(make_model())
    for weights in (IndexTTSWeights(location="gpt.onnx"), IndexTTSWeights(location="gpt")):
        with pytest.raises(CheckpointError, match="unknown form"):
            weights.load(make_model())
        with pytest.raises(CheckpointError, match="unknown form"):
            weights.save(make_model())


def test_a_model_of_another_kind_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "gpt.pth"
    with pytest.raises(CheckpointError, match="expected a UnifiedVoice"):
        IndexTTSWeights(location=str(path)).save(nn.Linear(2, 2))
    assert not path.exists()
