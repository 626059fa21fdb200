from __future__ import annotations

from typing import Any

import pytest
import torch

from core.contracts import SpeechBatch, TokenTime, Transcript
from core.inference import Heard
from core.transcribe import _tell


def told(transcript: Transcript, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """Return what is printed and what is written."""
    batch = SpeechBatch(
        ids=(transcript.id,),
        audio=torch.zeros(1, 160),
        audio_lengths=torch.tensor([160]),
        targets=torch.zeros((1, 0), dtype=torch.int64),
        target_lengths=torch.zeros(1, dtype=torch.int64),
        sample_rate=16000,
    )
    written: list[dict[str, Any]] = []
    _tell(Heard(batch=batch, transcripts=[transcript]), written.append, as_json=False)
    return capsys.readouterr().out, written[0]


def test_a_transcript_is_one_printed_line_and_whole_in_the_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed, written = told(Transcript(id="a.wav", text="one\ttwo\n three"), capsys)
    assert printed == "a.wav\tone two three\n"
    assert written == {"id": "a.wav", "text": "one\ttwo\n three"}, "no score that was not given"


def test_scores_and_token_times_are_written_where_there_are_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    time = TokenTime(token="a", start=0.0, end=0.1, probability=0.5)
    _, written = told(Transcript(id="a", text="a", tokens=(time,), score=-1.5), capsys)
    assert written["score"] == -1.5
    assert written["tokens"][0]["token"] == "a"
    _, silent = told(Transcript(id="b", text="", score=-0.1), capsys)
    assert silent["tokens"] == ()
