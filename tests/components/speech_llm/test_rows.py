from __future__ import annotations

import pytest
import torch

from components.speech_llm.families import FAMILIES
from components.speech_llm.rows import chunk_frames, frame_mask, row_counts, valid_rows
from core.errors import DataError

VOXTRAL, GLM = FAMILIES["voxtral"], FAMILIES["glmasr"]


def test_voxtrals_chunks_have_all_their_rows() -> None:
    encoded = torch.zeros(3, 375, 4)
    assert row_counts(encoded, [1, 2], None, VOXTRAL) == [375, 375, 375]
    assert row_counts(encoded, [1, 2], [1, 480_001], VOXTRAL) == [375, 375, 375]


def test_frames_end_with_the_audio() -> None:
    assert chunk_frames([2, 1], [480_000 + 161, 160], VOXTRAL) == [3000, 2, 1]
    assert chunk_frames([1], torch.tensor([1]), VOXTRAL) == [1]
    assert chunk_frames([1], [1], FAMILIES["qwen3_asr"]) == [50]


def test_frames_are_those_that_the_extractor_masks() -> None:
    import numpy as np
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=128)
    for samples in (1, 159, 160, 161, 479_999, 480_000):
        made = extractor(
            np.zeros(samples, dtype=np.float32),
            sampling_rate=16_000,
            return_attention_mask=True,
            return_tensors="pt",
        )
        frames = chunk_frames([1], [samples], VOXTRAL)
        assert torch.equal(frame_mask(frames, torch.device("cpu")), made["attention_mask"].long())


def test_chunks_must_be_those_of_the_utterances() -> None:
    with pytest.raises(DataError, match=r"3 chunks of audio, but the utterances have \[1, 1\]"):
        row_counts(torch.zeros(3, 375, 4), [1, 1], None, VOXTRAL)
    with pytest.raises(DataError, match="GLM-ASR takes 1"):
        row_counts(torch.zeros(3, 375, 4), [1, 2], [1, 2], GLM)


def test_rows_of_padding_are_left_out_in_order() -> None:
    encoded = torch.arange(6).reshape(2, 3, 1)
    assert valid_rows(encoded, [3, 3]).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert valid_rows(encoded, [2, 1]).flatten().tolist() == [0, 1, 3]
