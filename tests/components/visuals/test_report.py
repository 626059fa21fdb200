from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest

from components.visuals import report
from core.contracts import TokenTime


def arguments(**changes: Any) -> dict[str, Any]:
    log_probs = np.log(np.full((5, 3), 1 / 3))
    return {
        "utterance": "u1",
        "audio": np.zeros(3200, dtype=np.float32),
        "sample_rate": 16000,
        "features": np.zeros((20, 8), dtype=np.float32),
        "log_probs": log_probs,
        "tokens": ["<blank>", "a", "b"],
        "aligned": [TokenTime(token="a", start=0.04, end=0.08, probability=0.5)],
        "seconds_per_frame": 0.04,
        "seconds_per_feature": 0.01,
        "reference": "a",
        "hypothesis": "b",
        **changes,
    }


def test_shows_texts_audio_and_pictures() -> None:
    pytest.importorskip("matplotlib")
    found = {artifact.name: artifact for artifact in report.utterance_artifacts(**arguments())}
    assert list(found) == [
        "text/u1",
        "audio/u1",
        "spectrogram/u1",
        "posteriors/u1",
        "alignment/u1",
    ]
    assert found["text/u1"].value == "reference:  a\nhypothesis: b"
    assert found["audio/u1"].sample_rate == 16000
    for name in list(found)[2:]:
        value = found[name].value
        assert isinstance(value, np.ndarray)
        assert (value.shape, value.dtype) == ((400, 900, 3), np.uint8)


def test_no_alignment_has_no_picture() -> None:
    names = [artifact.name for artifact in report.utterance_artifacts(**arguments(aligned=()))]
    assert "alignment/u1" not in names


def test_without_matplotlib_there_are_no_pictures_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report.can_draw.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                found = report.utterance_artifacts(**arguments())
    finally:
        report.can_draw.cache_clear()
    assert [artifact.kind for artifact in found] == ["text", "audio"]
    assert [record.getMessage() for record in caplog.records] == [
        "matplotlib is not installed: there will be no pictures; it is in sori[aim]"
    ]
