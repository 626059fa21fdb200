from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import torch
from lhotse import SupervisionSegment
from lhotse.cut import Cut

from core.contracts import Batch, Skipped
from core.data.audio import AudioError, recording
from core.data.speech import SpeechCollator, transcript
from tests.core.data.corpus_files import RATE, Characters, tone, write_wav


def utterance(folder: Path, name: str, seconds: float, text: str | None) -> Cut:
    cut = recording(write_wav(folder / f"{name}.wav", seconds), utterance=name).to_cut()
    cut.supervisions = [
        SupervisionSegment(
            id=name, recording_id=name, start=0, duration=seconds, text=text, speaker=f"of {name}"
        )
    ]
    return cut


def collator(text: str | None = "abc") -> SpeechCollator:
    tokenizer = None
    if text is not None:
        tokenizer = Characters()
        tokenizer.fit([text])
    return SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=tokenizer)


def test_a_batch_is_padded_with_zeros(tmp_path: Path) -> None:
    cuts = [utterance(tmp_path, "u", 0.5, "ab"), utterance(tmp_path, "v", 1.0, "cab")]
    batch = collator()(cuts)
    assert isinstance(batch, Batch)
    assert (batch.ids, batch.texts) == (("u", "v"), ("ab", "cab"))
    assert batch.speakers == ("of u", "of v")
    assert batch.audio.dtype == torch.float32
    assert batch.audio_lengths.tolist() == [8000, 16000]
    assert np.array_equal(batch.audio[0, :8000].numpy(), tone(0.5))
    assert not batch.audio[0, 8000:].any()
    assert batch.targets.tolist() == [[1, 2, 0], [3, 1, 2]]
    assert batch.targets.dtype == batch.target_lengths.dtype == torch.int64
    assert batch.target_lengths.tolist() == [2, 3]
    assert (batch.seconds, batch.padded_seconds) == (1.5, 2.0)


def test_without_a_tokenizer_there_are_no_targets_and_no_text_is_needed(tmp_path: Path) -> None:
    batch = collator(None)([utterance(tmp_path, "u", 0.5, None)])
    assert batch.targets.shape == (1, 0)
    assert batch.target_lengths.tolist() == [0]
    assert batch.texts == ("",)


def test_what_cannot_be_used_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    cuts = [utterance(tmp_path, name, 0.5, "ab") for name in ("gone", "good")]
    cuts += [utterance(tmp_path, "odd", 0.5, "ax"), utterance(tmp_path, "mute", 0.5, None)]
    (tmp_path / "gone.wav").unlink()
    header = AudioError(reason="empty file", detail="x.wav", utterance="void")
    batch = collator()([*cuts, header])
    assert batch.ids == ("good",)
    assert batch.skipped == (
        Skipped(id="gone", reason="missing file", detail=str(tmp_path / "gone.wav")),
        Skipped(id="odd", reason="text", detail="cannot encode ['x']"),
        Skipped(id="mute", reason="no transcript"),
        Skipped(id="void", reason="empty file", detail="x.wav"),
    )


def test_a_batch_of_which_nothing_is_left_is_empty_but_whole(tmp_path: Path) -> None:
    batch = collator()([AudioError(reason="empty file", detail="", utterance="u")])
    assert len(batch) == 0
    assert batch.audio.shape == batch.targets.shape == (0, 0)
    assert batch.audio.dtype == torch.float32
    assert batch.targets.dtype == torch.int64
    assert batch.audio_lengths.shape == batch.target_lengths.shape == (0,)
    assert (batch.seconds, batch.padded_seconds, len(batch.skipped)) == (0.0, 0.0, 1)


def test_korean_is_composed(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "소리")
    assert len(decomposed) == 4
    batch = collator("소리")([utterance(tmp_path, "u", 0.5, decomposed)])
    assert batch.texts == ("소리",)
    assert batch.target_lengths.tolist() == [2]


def test_supervisions_join_in_order_of_time(tmp_path: Path) -> None:
    cut = utterance(tmp_path, "u", 1.0, "first")
    later = SupervisionSegment(id="l", recording_id="u", start=0.5, duration=0.5, text="second")
    cut.supervisions = [later, *cut.supervisions]
    assert transcript(cut) == "first second"
    cut.supervisions = []
    assert transcript(cut) is None
