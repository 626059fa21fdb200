from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.speech_llm.examples import (
    answer_ids,
    answered,
    requests,
    to_be_answered,
)
from components.speech_llm.families import FAMILIES
from components.speech_llm.prompt import Prompt, prompt_for
from core.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prompt(tiny: Path) -> Prompt:
    return prompt_for(tiny, FAMILIES["voxtral"])


def test_labels_are_the_transcript_and_its_end(prompt: Prompt) -> None:
    asked = requests(prompt, rows=[375, 375, 375], chunks=[1, 2], language="ko")
    assert [len(each) for each in asked] == [387, 762]  # 375 a chunk, and twelve around them
    examples = answered(prompt, asked, ["ab", "안"], CPU)
    labels = torch.full_like(examples.ids, -100)
    for row, (start, end) in enumerate(examples.answers):
        labels[row, start:end] = examples.ids[row, start:end]
    first = [-100] * 387 + [64 + ord("a"), 64 + ord("b"), 2] + [-100] * 376
    second = [-100] * 762 + [64 + byte for byte in "안".encode()] + [2]
    assert labels.tolist() == [first, second]
    assert examples.mask.sum(1).tolist() == [390, 766]
    assert examples.ids[0, 390:].eq(prompt.pad_token).all()
    assert examples.at_answers(examples.ids).tolist() == first[387:390] + second[762:]


def test_values_before_answers_are_those_that_predict_them(prompt: Prompt) -> None:
    asked = requests(prompt, rows=[375], chunks=[1], language=None)
    examples = answered(prompt, asked, ["abc"], CPU)
    positions = torch.arange(examples.ids.shape[1])[None]
    start = len(asked[0])
    assert examples.at_answers(positions, shift=-1).tolist() == list(range(start - 1, start + 3))


def test_requests_are_padded_on_the_left(prompt: Prompt) -> None:
    asked = requests(prompt, rows=[375, 375, 375], chunks=[1, 2], language=None)
    examples = to_be_answered(prompt, asked, CPU)
    gap = len(asked[1]) - len(asked[0])
    assert examples.mask[0].tolist() == [0] * gap + [1] * len(asked[0])
    assert examples.ids[0, gap:].tolist() == asked[0]
    assert examples.ids[1].tolist() == asked[1]


def test_a_transcript_with_the_audio_token_is_refused(prompt: Prompt) -> None:
    class Parsing:
        audio_token, pad_token, end_token = 24, 11, 2

        def answer(self, text: str) -> list[int]:
            return [70, 24, 2]

        def request(self, *, rows: int, chunks: int, language: str | None) -> list[int]:
            raise NotImplementedError

        def read(self, ids: list[int]) -> str:
            raise NotImplementedError

    with pytest.raises(DataError, match="token that stands for audio: 'a <sound> b'"):
        answer_ids(Parsing(), "a <sound> b")
