from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.nemo.compare import differing, input_norm_differing, version_of
from components.nemo.settings import Sections, settings_of
from components.nemo.transfer import import_into
from core.errors import CheckpointError
from tests.components.nemo.models import make_task, nemo_state

OWN = settings_of(make_task())


def theirs(section: str = "encoder", **changed: Any) -> Sections:
    found = {name: dict(values) for name, values in OWN.items()}
    found[section] |= changed
    return found


def shared(levels: int) -> list[Any]:
    value: list[Any] = ["x"]
    for _ in range(levels):
        value = [value] * 8
    return value


def test_a_configuration_of_the_task_itself_does_not_differ() -> None:
    found = differing(OWN, OWN)
    assert (found.decisive, found.training, found.unknown) == ([], [], [])


@pytest.mark.parametrize(
    "odd",
    [
        lambda: shared(30),
        lambda: [[shared(30), -1]],
        lambda: {"a": shared(30)},
        lambda: "x" * (1 << 20),
        lambda: ["x" * (1 << 20)] * 8,
        lambda: [0] * 100_000,
        lambda: [[1, 2]] * 100_000,
        lambda: 1 << 100_000,
        lambda: {1, 2},
        lambda: "\x1b[2J\n\r",
        lambda: ["${a}", shared(30)],
    ],
    ids=range(11),
)
@pytest.mark.parametrize(
    "key",
    ["xscaling", "att_context_size", "self_attention_model", "conv_context_size", "dropout"],
)
def test_values_that_are_no_settings_are_told_in_few_characters(
    key: str, odd: Callable[[], Any]
) -> None:
    found = differing(theirs(**{key: odd()}), OWN)
    lines = [*found.decisive, *found.training, *found.unknown]
    assert any(f"encoder.{key}: " in line for line in lines)
    assert all(len(line) < 200 and line.isprintable() for line in lines)


def test_what_is_no_setting_is_refused_where_it_decides_the_function() -> None:
    state = nemo_state(dim=32, layers=2, heads=4, kernel=9, channels=8, classes=64)
    config = theirs(xscaling=shared(30))
    message = r"encoder\.xscaling: not readable \(list\) in the file, True here"
    with pytest.raises(CheckpointError, match=message) as caught:
        import_into(make_task(), state, config=config)
    assert len(str(caught.value)) < 500
    notes = import_into(make_task(), state, config=config, other_settings=True).notes
    assert any(note.startswith("accepted: encoder.xscaling") for note in notes)


@pytest.mark.parametrize("size", ["nine", None, [9], {}, 9.5, True])
@pytest.mark.parametrize("context", [None, "causal", "caucal", [4, 4]])
def test_a_kernel_size_of_no_number_is_the_one_that_the_weights_show(
    size: Any, context: Any
) -> None:
    found = differing(theirs(conv_kernel_size=size, conv_context_size=context), OWN)
    if context in (None, [4, 4]):
        assert found.decisive == []
    else:
        assert found.decisive[0].endswith("[4, 4] here (task.encoder.conv_context)")


def test_what_the_file_leaves_open_is_told() -> None:
    open_ended: dict[str, Any] = {**theirs(xscaling="${oc.env:SCALE}"), "preprocessor": "???"}
    found = differing(open_ended, OWN)
    assert found.decisive == []
    assert found.unknown == [
        "preprocessor: no settings in the file's configuration; not compared",
        "encoder.xscaling: ${oc.env:SCALE} is not resolved here; not compared",
    ]
    assert differing({}, OWN).unknown == [
        "preprocessor: not in the file's configuration; not compared",
        "encoder: not in the file's configuration; not compared",
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"highfreq": 8000}, None),
        ({"highfreq": None, "lowfreq": 0}, None),
        ({"highfreq": 7600}, "highfreq: 7600 in the file, 8000.0 here (task.features.max"),
        ({"lowfreq": 64.0}, "lowfreq: 64.0 in the file, 0.0 here (task.features.min"),
        ({"mag_power": 1.0}, "mag_power: 1.0 in the file, 2.0 here"),
        ({"normalize": {"fixed_mean": [0]}}, "normalize: not readable (dict) in the file"),
        ({"normalize": None}, "normalize: NA in the file, per_feature here"),
        ({"window_stride": 0.02}, "window_stride: 0.02 in the file, 0.01 here"),
    ],
    ids=str,
)
def test_features_are_compared(changed: dict[str, Any], line: str | None) -> None:
    found = differing(theirs("preprocessor", **changed), OWN)
    if line is None:
        assert found.decisive == []
    else:
        assert found.decisive[0].startswith(f"preprocessor.{line}")


def test_training_settings_decide_nothing() -> None:
    found = differing(theirs(dropout_emb=0.1, untie_biases=False), OWN)
    assert found.decisive == []
    assert len(found.training) == 2


@pytest.mark.parametrize(
    ("config", "own", "decisive", "unknown"),
    [
        ({}, "layer_norm", None, None),
        ({"quantizer": 3, "nemo_version": "2.7.3"}, "layer_norm", None, None),
        ({"quantizer": {}, "nemo_version": "2.7.3"}, "none", None, None),
        ({"quantizer": {}, "nemo_version": 2.1}, "layer_norm", "input_norm: none in the", None),
        ({"quantizer": {}, "nemo_version": "3.1.0"}, "none", None, "file does not say"),
        ({"quantizer": {}}, "layer_norm", None, "file does not say"),
        ({"quantizer": {}}, "none", None, None),
        (
            {"quantizer": {"xavier_normal_init": True}},
            "none",
            "input_norm: layer_norm in the file, none here (task.quantizer.input_norm)",
            None,
        ),
        ({"quantizer": {"learnable_norm": False}}, "layer_norm", None, None),
        ({"quantizer": {"learnable_norm": True}}, "layer_norm", "no counterpart here", None),
    ],
    ids=str,
)
def test_the_norm_before_the_projection(
    config: dict[str, Any], own: str, decisive: str | None, unknown: str | None
) -> None:
    found = input_norm_differing(config, own)
    for lines, wanted in ((found.decisive, decisive), (found.unknown, unknown)):
        assert len(lines) == (wanted is not None)
        assert wanted is None or wanted in lines[0]


def test_a_norm_of_no_setting_is_told_in_few_characters() -> None:
    (line,) = input_norm_differing({"quantizer": {"learnable_norm": shared(30)}}, "none").decisive
    assert line.startswith("quantizer.learnable_norm: a list in the file")


def test_importing_into_another_input_norm_is_refused() -> None:
    state = nemo_state(dim=32, layers=2, heads=4, kernel=9, channels=8, classes=64)
    config = theirs("quantizer", xavier_normal_init=False)
    with pytest.raises(CheckpointError, match=r"input_norm: layer_norm in the file, none here"):
        import_into(make_task(), state, config=config)


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.10.0rc1", (2, 10)), (2.4, (2, 4)), ("9" * 5000 + ".1", None), (None, None), ([2.1], None)],
    ids=lambda value: str(value)[:20],
)
def test_versions(text: Any, version: tuple[int, int] | None) -> None:
    assert version_of({"nemo_version": text}) == version
