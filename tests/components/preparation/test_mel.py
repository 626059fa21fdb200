from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from components.features.power_mel import PowerMel
from components.preparation.mel import Mel
from components.preparation.mel_folder import FAILED, shard
from components.preparation.mel_work import Job, make_mel, usable
from core.errors import ConfigError, DataError
from tests.fixtures.pair_files import edit_row, read_rows, write_pairs

ROWS = 6
REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write pairs, two rows to a target, with the audio of their targets."""
    monkeypatch.delenv("NUM_WORKERS", raising=False)
    monkeypatch.delenv("LIMIT", raising=False)
    path = write_pairs(tmp_path, ROWS)
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() for _ in "ab"))
    (tmp_path / "audio").mkdir()
    for number in range(ROWS):
        write_audio(tmp_path / f"audio/T{number}.wav", number)
    return path


def write_audio(path: Path, number: int, *, rate: int = 22050) -> None:
    rng = np.random.default_rng(number)
    soundfile.write(path, 0.1 * rng.standard_normal(4000 + 500 * number), rate)


def mel(manifest: Path, **options: Any) -> list[str]:
    said: list[str] = []
    Mel(manifest=manifest, **{"workers": 1, **options})(said.append)
    return said


def made(manifest: Path) -> list[str]:
    return sorted(path.stem for path in (manifest.parent / "mel").rglob("*.npy"))


def test_every_target_gets_its_mel_once(manifest: Path) -> None:
    said = mel(manifest, workers=2)
    assert made(manifest) == [f"T{number}" for number in range(ROWS)]
    assert any(line.endswith(f"mel: {ROWS} mels made") for line in said)
    assert f"  utterances looked at: {ROWS}" in said
    for number in range(ROWS):
        values = np.load(manifest.parent / f"mel/T{number}.npy")
        audio, _ = soundfile.read(manifest.parent / f"audio/T{number}.wav", dtype="float32")
        wanted, _ = PowerMel()(torch.from_numpy(audio)[None], torch.tensor([audio.size]))
        assert values.dtype == np.float32
        assert values.shape == (1 + audio.size // 256, 80)
        assert np.array_equal(values, wanted[0].numpy())
        assert (manifest.parent / f"mel/T{number}.npy").stat().st_size == 128 + 320 * len(values)
    assert not (manifest.parent / "mel" / FAILED).exists()


def test_the_limit_counts_new_files_in_the_manifests_order(manifest: Path) -> None:
    mel(manifest, limit=2)
    assert made(manifest) == ["T0", "T1"]
    said = mel(manifest, limit=3, workers=2)
    assert made(manifest) == ["T0", "T1", "T2", "T3", "T4"]
    assert "  there already: 2" in said
    assert "  stopped at the limit of 3 new files" in said


def test_the_guides_names_work_from_the_environment(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMIT", "1")
    monkeypatch.setenv("NUM_WORKERS", "1")
    said = mel(manifest, workers=None)
    assert said[:2] == ["NUM_WORKERS=1 from the environment", "LIMIT=1 from the environment"]
    assert made(manifest) == ["T0"]
    monkeypatch.setenv("LIMIT", "")
    assert "LIMIT" not in " ".join(mel(manifest))
    monkeypatch.setenv("LIMIT", "many")
    with pytest.raises(ConfigError, match="LIMIT=many in the environment"):
        mel(manifest)


@pytest.mark.parametrize(("name", "variable"), [("workers", "NUM_WORKERS"), ("limit", "LIMIT")])
def test_none_at_all_is_no_number_of_workers_or_files(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    with pytest.raises(ConfigError, match=f"mel: {name}=0; expected at least 1"):
        mel(manifest, **{name: 0})
    monkeypatch.setenv(variable, "0")
    with pytest.raises(ConfigError, match=f"{variable}=0 in the environment; expected at least 1"):
        mel(manifest, workers=None)
    assert not (manifest.parent / "mel").exists()


def test_bad_audio_is_listed_with_its_reason_and_not_tried_again(manifest: Path) -> None:
    folder = manifest.parent
    (folder / "audio/T1.wav").unlink()
    (folder / "audio/T3.wav").write_bytes(b"not audio at all")
    said = mel(manifest, limit=4)
    assert made(manifest) == ["T0", "T2", "T4", "T5"], "failures do not count against the limit"
    rows = [json.loads(line) for line in (folder / "mel" / FAILED).read_text().splitlines()]
    assert {row["id"]: row["reason"] for row in rows} == {"T1": "missing file", "T3": "not audio"}
    assert "  failed now: 2" in said
    assert "  failed, by reason: missing file: 1" in said
    write_audio(folder / "audio/T1.wav", 1)
    said = mel(manifest)
    assert "  failed before and not tried again (--retry-failed): 2" in said
    said = mel(manifest, retry_failed=True)
    assert made(manifest) == ["T0", "T1", "T2", "T4", "T5"]
    rows = [json.loads(line) for line in (folder / "mel" / FAILED).read_text().splitlines()]
    assert [row["id"] for row in rows] == ["T3"]


def test_a_failed_list_that_was_cut_off_is_mended(manifest: Path) -> None:
    folder = manifest.parent
    (folder / "audio/T1.wav").unlink()
    mel(manifest)
    with (folder / "mel" / FAILED).open("a") as file:
        file.write('{"id": "T2", "rea')
    (folder / "mel/T2.npy").unlink()
    mel(manifest)
    assert "T2" in made(manifest)
    assert len((folder / "mel" / FAILED).read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY\x01\x00v\x00", np.zeros((5, 64), np.float32), np.zeros((80, 5), np.float32)],
)
def test_a_damaged_file_is_made_again(manifest: Path, content: Any) -> None:
    path = manifest.parent / "mel/T2.npy"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    assert not usable(path)
    said = mel(manifest)
    assert usable(path)
    assert "  of these made, there before but cut off or damaged: 1" in said


def test_shards_are_made_and_found(manifest: Path) -> None:
    mel(manifest, limit=1)
    mel(manifest, shards=True)
    assert (manifest.parent / f"mel/{shard(b'T5')}/T5.npy").is_file()
    assert (manifest.parent / "mel/T0.npy").is_file()
    assert len(made(manifest)) == ROWS
    assert f"  there already: {ROWS}" in mel(manifest)


def test_prompts_have_audio_too(manifest: Path) -> None:
    write_audio(manifest.parent / "audio/P0.wav", 9, rate=16000)
    said = mel(manifest, side="both")
    assert "P0" in made(manifest)
    assert len(np.load(manifest.parent / "mel/P0.npy")) == 1 + round(8500 * 22050 / 16000) // 256
    assert f"  failed now: {ROWS - 1}" in said


def test_ids_that_are_no_file_names_fail_with_a_reason(manifest: Path) -> None:
    edit_row(manifest, 0, target_id="../../x")
    said = mel(manifest)
    assert "  failed, by reason: file name: 1" in said
    assert not (manifest.parent.parent / "x.npy").exists()


def test_arrays_of_the_pairs_are_not_taken_for_damaged_mels(manifest: Path) -> None:
    codes = manifest.parent / "codes"
    codes.mkdir()
    np.save(codes / "T2.npy", np.arange(5, dtype=np.int32))
    for number in (4, 5):
        edit_row(manifest, number, target_codes_path="codes/T2.npy")
    before = (codes / "T2.npy").read_bytes()
    with pytest.raises(DataError, match=r"codes/T2\.npy is what is read"):
        mel(manifest, mel=codes)
    assert (codes / "T2.npy").read_bytes() == before


def test_bad_rows_are_named(manifest: Path) -> None:
    edit_row(manifest, 3, target_audio_path=None)
    with pytest.raises(DataError, match=r"pairs\.jsonl:4: target_audio_path is None"):
        mel(manifest)


def test_a_mel_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 0)
    output = tmp_path / "mel" / "a.npy"
    output.parent.mkdir()
    # A folder with the target's name makes the rename fail after all was written.
    output.mkdir()
    with pytest.raises(OSError, match=r"a\.npy"):
        make_mel(Job(id="a", audio=tmp_path / "a.wav", output=output))
    assert os.listdir(output.parent) == ["a.npy"]


def test_a_killed_run_goes_on_and_leaves_no_process(manifest: Path) -> None:
    lines = manifest.read_text().splitlines()[::2]
    rows = [json.loads(lines[0]) | {"target_id": f"T{n}"} for n in range(4000)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [sys.executable, "-m", "core.prepare", "mel", str(manifest), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list((manifest.parent).glob("mel/T*.npy"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)
    found = sorted(manifest.parent.glob("mel/T*.npy"))
    assert 5 <= len(found) < 4000
    assert all(usable(path) for path in found)
    said = mel(manifest, limit=1)
    assert f"  there already: {len(found)}" in said
    assert read_rows(manifest) == rows


def _alive(group: int) -> bool:
    """Say whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
