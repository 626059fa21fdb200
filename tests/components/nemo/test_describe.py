from __future__ import annotations

from typing import Any

import pytest

from components.features.log_mel import LogMel
from components.nemo.describe import configuration, history
from tests.components.nemo.models import make_task


def padded(pad_to: int, **encoder: Any) -> Any:
    task: Any = make_task(**encoder)
    task.features.pad_to = pad_to
    return task


@pytest.mark.parametrize(("own", "written"), [(1, 16), (0, 16), (12, 16), (8, 8), (32, 32)])
def test_features_are_padded_to_whole_stacks(own: int, written: int) -> None:
    assert configuration(padded(own))["preprocessor"]["pad_to"] == written


def test_without_quantizer_no_padding_is_written() -> None:
    task = make_task()
    del task.quantizer
    config = configuration(task)
    assert config["preprocessor"]["pad_to"] == 0
    assert "target" not in config


def test_edges_of_the_filter_bank_are_written() -> None:
    task = make_task()
    assert configuration(task)["preprocessor"]["highfreq"] is None
    task.features = LogMel(min_frequency=20.0, max_frequency=7600.0)
    written = configuration(task)["preprocessor"]
    assert (written["lowfreq"], written["highfreq"]) == (20.0, 7600.0)


def test_durations_give_nemo_the_same_counts_of_samples() -> None:
    task: Any = make_task()
    for rate, samples in ((16000, 160), (16000, 400), (8000, 1001), (22050, 220), (44100, 1763)):
        task.features.sample_rate, task.features.hop = rate, samples
        assert int(configuration(task)["preprocessor"]["window_stride"] * rate) == samples


@pytest.mark.parametrize(
    ("version", "pad_to", "edges", "masked", "wanted"),
    [
        ("2.1.0", 1, "zeros", True, ["edges=reflect", "pad_to=16", "mask_subsampling=false"]),
        ("2.1.0", 1, "reflect", False, ["pad_to=16"]),
        ("2.1.0", 16, "reflect", True, ["mask_subsampling=false"]),
        ("2.1.0", 16, "reflect", False, []),
        ("2.6.2", 1, "zeros", True, []),
        ("2.6.2", 16, "reflect", False, ["edges=zeros", "mask_subsampling=true"]),
        (None, 1, "reflect", False, []),
        ({"a": [1]}, 1, "reflect", False, []),
    ],
)
def test_history_names_each_option_by_itself(
    version: Any, pad_to: int, edges: Any, masked: bool, wanted: list[str]
) -> None:
    task = padded(pad_to, mask_subsampling=masked)
    task.features.edges = edges
    notes = history({"nemo_version": version, "preprocessor": {}}, task)
    found = [word.split(".")[-1] for note in notes for word in note.split() if "=" in word]
    assert found == wanted


@pytest.mark.parametrize(("written", "wanted"), [(8, 8), ("16", 16), ([8], 16), (-1, 16)])
def test_history_pads_as_the_archive_did(written: Any, wanted: int) -> None:
    task = padded(1, mask_subsampling=False)
    config = {"nemo_version": "2.0.0", "preprocessor": {"pad_to": written}}
    (note,) = history(config, task)
    assert note.endswith(f"with task.features.edges=reflect task.features.pad_to={wanted}")
