from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from safetensors.torch import load_file

from components.speech_llm.stored import stored_tensors
from core.errors import CheckpointError

MODEL = "model.safetensors"


def test_where_tensors_lie_is_where_they_are(tiny: Path) -> None:
    content, state = (tiny / MODEL).read_bytes(), load_file(tiny / MODEL)
    places = stored_tensors(tiny / MODEL)
    assert {place.name for place in places} == set(state)
    for place in places:
        stored = content[place.start : place.start + place.size]
        assert stored == state[place.name].numpy().tobytes()
        assert place.shape == tuple(state[place.name].shape)
    assert [place.start for place in places] == sorted(place.start for place in places)


@pytest.mark.parametrize(
    "header",
    ["{", "[]", '{"a": {}}', '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}'],
)
def test_damaged_headers_are_refused(tmp_path: Path, header: str) -> None:
    file = tmp_path / MODEL
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    with pytest.raises(CheckpointError, match="is no safetensors file: "):
        stored_tensors(file)


def test_a_file_that_ends_before_its_tensors_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    file = tmp_path / MODEL
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(7))
    with pytest.raises(CheckpointError, match="is cut short: "):
        stored_tensors(file)
