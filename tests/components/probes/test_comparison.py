from __future__ import annotations

import json
import math

import pytest

from components.probes.comparison import Difference, compare, differences
from components.probes.report import ProbeReport
from tests.components.probes.test_report import report


@pytest.fixture(scope="module")
def reports() -> tuple[ProbeReport, ProbeReport]:
    return report("lambda 0", leak=2.0), report("lambda 1", leak=0.0)


def test_two_runs_beside_each_other(reports: tuple[ProbeReport, ProbeReport]) -> None:
    lines = compare(*reports)
    speaker = next(line for line in lines if line.startswith("speaker") and "linear" in line)
    assert float(speaker.split()[-1].rstrip("%")) > 85.0
    emotion = next(line for line in lines if line.startswith("emotion") and "linear" in line)
    assert abs(float(emotion.split()[-1].rstrip("%"))) < 1.0
    assert any(line.startswith("speaker_eer") for line in lines)


def test_the_figures_are_those_of_the_reports(reports: tuple[ProbeReport, ProbeReport]) -> None:
    before, after = reports
    found = {each.key: each.as_dict() for each in differences(before, after)}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    told, kept = before.classes["speaker"][0], after.classes["speaker"][0]
    linear = found["speaker_linear"]
    assert linear["before"] == told.accuracy
    assert linear["points"] == pytest.approx(100 * (kept.accuracy - told.accuracy))
    assert linear["removed"] == pytest.approx(
        (told.accuracy - kept.accuracy) / (told.accuracy - 1 / 6)
    )
    assert {"emotion_mlp", "prosody_linear_r2", "speaker_eer", "norm", "shuffle_delta"} <= set(
        found
    )
    assert found["shuffle_delta"]["percent"] == 0.0


def test_a_loss_that_rises_is_told_in_percent() -> None:
    loss = Difference(name="loss", probe="", before=2.0, after=2.05)
    assert loss.row() == ("loss", "", "2", "2.05", "+0.05 (+2.50 %)", "")
    assert loss.as_dict()["percent"] == pytest.approx(2.5)


def test_nothing_above_chance_cannot_be_removed() -> None:
    none = Difference(name="speaker", probe="mlp", before=0.05, after=0.04, removed=math.nan)
    assert none.row()[-1] == "-"
    assert none.as_dict()["removed"] is None
