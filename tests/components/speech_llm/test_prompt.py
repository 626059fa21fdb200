from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoProcessor

from components.speech_llm.families import FAMILIES
from components.speech_llm.prompt import Prompt, prompt_for, require_code
from core.errors import CheckpointError, ConfigError
from tests.components.speech_llm.other_families import write_family


@pytest.fixture(scope="module")
def prompt(tiny: Path) -> Prompt:
    return prompt_for(tiny, FAMILIES["voxtral"])


@pytest.mark.parametrize("language", [None, "ko", "en"])
def test_the_request_is_the_processors(
    tiny: Path, prompt: Prompt, audio: tuple[Tensor, ...], language: str | None
) -> None:
    processor = AutoProcessor.from_pretrained(tiny)
    for each, chunks in zip(audio, (1, 2), strict=True):
        wanted = processor.apply_transcription_request(
            audio=[each.numpy()],
            language=language,
            model_id="any",
            sampling_rate=16_000,
            format="wav",
        )["input_ids"][0]
        found = prompt.request(rows=375 * chunks, chunks=chunks, language=language)
        assert found == wanted.tolist()


def test_the_request_reads_as_published(prompt: Prompt) -> None:
    ids = prompt.request(rows=375, chunks=1, language="ko")
    text = b"lang:ko"
    assert ids == [1, 3, 25, *[24] * 375, 4, *[64 + byte for byte in text], 34]


def test_the_request_is_another_one_for_each_language(prompt: Prompt) -> None:
    korean = prompt.request(rows=375, chunks=1, language="ko")
    assert prompt.request(rows=375, chunks=1, language=None) != korean
    assert prompt.request(rows=375, chunks=1, language="ko") == korean


def test_a_tokenizer_of_another_model_is_noticed(prompt: Prompt) -> None:
    with pytest.raises(
        ConfigError, match="375 audio tokens for 1 chunks, and the encoder gives 750"
    ):
        prompt.request(rows=750, chunks=1, language=None)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("korean", "did you mean 'ko'"),
        ("Korean", "did you mean 'ko'"),
        ("kor", "ISO 639-1; did you mean .*'k"),
        ("", "ISO 639-1"),
        ("xx", "ISO 639-1"),
    ],
)
def test_a_language_that_is_no_code_is_refused(prompt: Prompt, language: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prompt.request(rows=375, chunks=1, language=language)


def test_a_code_is_looked_at_without_a_model() -> None:
    for language in (None, "ko", "fr", "yue", "fil"):
        require_code(language)
    for language, said in (("korean", "'ko'"), ("kor", "ISO"), ("KO!", "ISO"), ("", "ISO")):
        with pytest.raises(ConfigError, match=said):
            require_code(language)


def test_answers_end_and_are_composed(prompt: Prompt) -> None:
    composed = "안녕"
    ids = prompt.answer(composed)
    assert ids == [*[64 + byte for byte in composed.encode()], 2]
    assert prompt.answer(unicodedata.normalize("NFD", composed)) == ids
    assert prompt.answer("") == [2]


def test_answers_are_read_up_to_their_end(prompt: Prompt) -> None:
    ids = prompt.answer(" 안녕 하세요 ")
    assert prompt.read([*ids, 99, 100, 2, prompt.pad_token]) == "안녕 하세요"
    assert prompt.read(ids[:-1]) == "안녕 하세요"
    assert prompt.read([2, 99]) == ""


def test_special_tokens_in_a_transcript_are_text(prompt: Prompt) -> None:
    ids = prompt.answer("[AUDIO]</s>")
    assert prompt.audio_token not in ids
    assert ids.count(prompt.end_token) == 1


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "voxtral"}')
    with pytest.raises(ConfigError, match="its processor cannot be loaded"):
        prompt_for(tmp_path, FAMILIES["voxtral"])


def test_a_chat_family_needs_its_template(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "base", "glmasr")
    prompt_for(folder, FAMILIES["glmasr"]).require(None)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"base lacks chat_template\.jinja, .*GLM-ASR"):
        prompt_for(folder, FAMILIES["glmasr"])


def test_a_language_changes_no_random_state(prompt: Prompt) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    prompt.request(rows=1125, chunks=3, language="fr")
    assert torch.equal(torch.rand(2), expected)
