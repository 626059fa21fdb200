from __future__ import annotations

from pathlib import Path

import pytest

from components.speech_llm.families import VOXTRAL_MINI
from components.speech_llm.lora import LoRA
from components.speech_llm.memory import outline_lines
from components.speech_llm.speech_llm import SpeechLLM


@pytest.fixture(scope="module")
def published() -> str:
    return "\n".join(SpeechLLM(base=VOXTRAL_MINI, lora=LoRA()).outline())


@pytest.mark.parametrize(
    "count",
    [
        "636,968,960",
        "25,165,824",
        "3,611,483,136",
        "402,653,184",
        "4,676,271,104",
        "114,688",
    ],
)
def test_parameters_are_those_published(published: str, count: str) -> None:
    assert f" {count}" in published


def test_the_memory_table_is_that_of_the_specification(published: str) -> None:
    sizes = [line.split()[-2] for line in published.splitlines() if line.endswith(" GB")]
    assert sizes == ["9.356", "3.803", "3.623", "3.661", "4.594", "5.246"]


def test_a_base_that_is_here_is_described_as_it_is(tiny: Path) -> None:
    text = "\n".join(outline_lines(str(tiny), LoRA(rank=4)))
    assert f"as {tiny / 'config.json'} says" in text
    assert "368,448" in text
    assert "1,792" in text


def test_a_base_of_unknown_size_is_said_to_be_one() -> None:
    lines = outline_lines("mistralai/Voxtral-Mini-3B-2506", LoRA())
    assert len(lines) == 1
    assert f"its size is not known; did you mean '{VOXTRAL_MINI}'?" in lines[0]
