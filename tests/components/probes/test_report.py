from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from components.probes.picture import probe_image
from components.probes.report import ProbeReport, probe_features

ROWS = 600


def report(name: str, *, leak: float) -> ProbeReport:
    generator = torch.Generator().manual_seed(0)
    speakers, emotions = torch.arange(ROWS) % 6, torch.arange(ROWS) // 6 % 3
    features = 0.3 * torch.randn(ROWS, 16, generator=generator)
    features[torch.arange(ROWS), speakers] += leak
    features[torch.arange(ROWS), 6 + emotions] += 2.0
    pitch = features[:, 12] * 10 + 100
    pitch[::50] = torch.nan  # Not known.
    mapped = speakers.clone()
    mapped[:30] = -1
    return probe_features(
        features,
        name=name,
        classes={"speaker": mapped, "emotion": emotions},
        numbers={"prosody": {"pitch": pitch}},
        unseen=(features[:120], speakers[:120]),
        extra={"shuffle_delta": 0.25},
        seeds=(0, 1, 2),
    )


@pytest.fixture(scope="module")
def reports() -> tuple[ProbeReport, ProbeReport]:
    return report("lambda 0", leak=2.0), report("lambda 1", leak=0.0)


def test_the_table_and_the_figures(reports: tuple[ProbeReport, ProbeReport]) -> None:
    found = "\n".join(reports[0].lines())
    assert "speaker   linear  100.0%" in found
    assert "pitch 1.00" in found
    assert "open-set speaker verification: EER" in found
    assert "shuffle_delta: 0.25" in found
    figures = json.loads(json.dumps(reports[0].as_dict(), allow_nan=False))
    assert figures["classes"]["speaker"][0]["accuracy"] == 1.0
    assert figures["classes"]["speaker"][0]["classes"] == 6, "unmapped rows are no class"
    assert figures["numbers"]["prosody"][0]["by_target"]["pitch"] > 0.99
    metrics = reports[0].metrics()
    assert metrics["probe/speaker_linear"] == 1.0
    assert metrics["probe/shuffle_delta"] == 0.25


def test_the_picture(reports: tuple[ProbeReport, ProbeReport]) -> None:
    pytest.importorskip("matplotlib")
    image = probe_image(reports, title="speaker and emotion in e")
    assert image.dtype == np.uint8
    assert image.shape == (400, 900, 3)
    colours = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    assert {(0x9A, 0xA5, 0xB1), (0x2B, 0x6C, 0xB0), (0xC5, 0x30, 0x30)} <= colours
    alone = probe_image(reports[:1], title="one")
    assert (0x2B, 0x6C, 0xB0) not in {tuple(pixel) for pixel in alone.reshape(-1, 3).tolist()}
