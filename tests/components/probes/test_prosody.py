from __future__ import annotations

import math
from pathlib import Path

import pytest
import soundfile
import torch

from components.features.pitch import RATE
from components.probes.prosody import NAMES, prosody, relative_to
from core.contracts import Padded, SpeechPairBatch
from tests.components.features.test_pitch import voice


def batch(audio: tuple[str, ...], *, loudness: tuple[float, ...], frames: int) -> SpeechPairBatch:
    rows = len(audio)
    mel = torch.zeros(rows, frames + 5, 4)
    for row, level in enumerate(loudness):
        mel[row, :frames] = level
        mel[row, frames // 2 : frames] += 1.0
        mel[row, 0] = -20.0  # A pause.
    return SpeechPairBatch(
        ids=tuple(f"T{row}__P" for row in range(rows)),
        text=Padded(values=torch.ones(rows, 8).long(), lengths=torch.full((rows,), 8)),
        codes=Padded(values=torch.ones(rows, 3).long(), lengths=torch.full((rows,), 3)),
        condition=torch.zeros(rows, 1, 2),
        mel=Padded(values=mel, lengths=torch.full((rows,), frames)),
        emotion=None,
        speakers=torch.zeros(rows).long(),
        sides=("target",) * rows,
        audio=audio,
    )


def test_pitch_energy_and_rate_are_what_was_put_in(tmp_path: Path) -> None:
    steady, moving = tmp_path / "steady.wav", tmp_path / "moving.wav"
    soundfile.write(steady, 0.2 * voice(128.0).numpy(), RATE)
    two = torch.cat([voice(128.0), voice(256.0)])
    soundfile.write(moving, 0.2 * two.numpy(), RATE)
    found = prosody(batch((str(steady), str(moving)), loudness=(-3.0, -1.0), frames=41))
    assert NAMES == ("pitch", "pitch_range", "energy", "energy_range", "rate")
    assert found[0, 0] == pytest.approx(7.0, abs=0.01)
    assert found[0, 1] == pytest.approx(0.0, abs=0.01)
    assert found[1, 1] == pytest.approx(1.0, abs=0.05)
    assert found[1, 2] - found[0, 2] == pytest.approx(2.0, abs=1e-5)
    assert found[0, 3] == pytest.approx(0.5, abs=0.01), "the pause is left out"
    assert found[0, 4] == pytest.approx(math.log(8 / 41))


def test_what_cannot_be_known_is_nan(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    given = batch(("", str(tmp_path / "gone.wav"), str(broken)), loudness=(0, 0, 0), frames=9)
    found = prosody(given)
    assert torch.isnan(found[:, :2]).all()
    assert torch.isfinite(found[:, 2:]).all()


def test_levels_are_relative_to_the_mean_of_a_group() -> None:
    values = torch.tensor([1.0, 3.0, math.nan, 10.0], dtype=torch.float64)
    found = relative_to(values, torch.tensor([0, 0, 0, 1]))
    assert found[:2].tolist() == [-1.0, 1.0]
    assert math.isnan(found[2])
    assert found[3] == 0.0
