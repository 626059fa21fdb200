from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.inference import ROOM, file_batches

RATE = 8000


def files(folder: Path, *seconds: float) -> list[Path]:
    made = []
    for number, length in enumerate(seconds):
        path = folder / f"{number}.wav"
        soundfile.write(path, np.zeros(int(length * RATE), dtype=np.float32), RATE)
        made.append(path)
    return made


@pytest.mark.parametrize(
    ("seconds", "size", "expected"),
    [
        ((1, 1, 1), 1, [1, 1, 1]),
        ((1, 1, 1, 1, 1), 2, [2, 2, 1]),
        ((ROOM, ROOM, 1), 3, [3]),
        ((1, 2 * ROOM + 1, 1, 1), 3, [1, 1, 2]),
        ((9 * ROOM, 1, 1), 3, [1, 2]),
    ],
)
def test_a_long_file_takes_the_place_of_several(
    tmp_path: Path, seconds: tuple[float, ...], size: int, expected: list[int]
) -> None:
    paths = files(tmp_path, *seconds)
    batches = list(file_batches(paths, sample_rate=RATE, batch_size=size))
    assert [len(batch) for batch in batches] == expected
    assert [name for batch in batches for name in batch.ids] == [str(path) for path in paths]
    for batch in batches:
        assert len(batch) == 1 or batch.padded_seconds <= size * ROOM


def test_what_cannot_be_read_is_told_and_takes_no_room(tmp_path: Path) -> None:
    paths = [*files(tmp_path, 1, 1), tmp_path / "gone.wav"]
    (batch,) = file_batches(paths, sample_rate=RATE, batch_size=3)
    assert len(batch) == 2
    assert [item.reason for item in batch.skipped] == ["missing file"]
