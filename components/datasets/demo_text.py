"""The sentences of the demo corpus: small grammars with a closed vocabulary.

A grammar is a list of templates whose slots name word lists. Words that sound alike ("to" and
"two", "four" and "for") are not both in a grammar, so that the sound decides the word. Whether a
sentence is for training, validation or test follows from the sentence alone: no split can hold a
sentence of another, whatever their sizes and seeds.
"""

from __future__ import annotations

import math
import random
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import DataError, suggest

SPLITS = ("train", "validation", "test")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Templates and the words that fill them.

    Args:
        templates: sentences with slots such as ``{room}``; a slot may occur twice in a template
            under two names, ``{city}`` and ``{city2}``, and is then filled with two words.
        words: choices for each slot, by the slot's name without its trailing digit.
    """

    templates: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]

    def vocabulary(self) -> tuple[str, ...]:
        """Return every word that a sentence may hold, sorted."""
        words: set[str] = set()
        for template in self.templates:
            slots = _SLOT.findall(template)
            first = {slot: self._choices(slot)[0] for slot in slots}
            words.update(template.format(**first).split())
            for slot in slots:
                for choice in self._choices(slot):
                    words.update(template.format(**{**first, slot: choice}).split())
        return tuple(sorted(words))

    def sentences(self, split: str, *, count: int, seed: int) -> list[str]:
        """Return ``count`` sentences of a split, the same ones for a seed.

        Templates are drawn evenly, so that every word is heard often; a sentence may therefore
        come more than once, to be spoken by other voices.
        """
        if split not in SPLITS:
            raise DataError(f"the demo corpus has no split '{split}'; {suggest(split, SPLITS)}")
        generator = random.Random(f"{seed}/{split}")
        chosen: list[str] = []
        while len(chosen) < count:
            sentence = self._draw(generator)
            if split_of(sentence) == split:
                chosen.append(sentence)
        return chosen

    def _draw(self, generator: random.Random) -> str:
        template = self.templates[_below(generator, len(self.templates))]
        filled: dict[str, str] = {}
        for slot in _SLOT.findall(template):
            free = [word for word in self._choices(slot) if word not in filled.values()]
            filled[slot] = free[_below(generator, len(free))]
        return template.format(**filled)

    def _choices(self, slot: str) -> tuple[str, ...]:
        return self.words[slot.rstrip("0123456789")]


def split_of(sentence: str) -> str:
    """Return the split a sentence belongs to: a tenth each to validation and test, by checksum."""
    return {0: "validation", 1: "test"}.get(zlib.crc32(sentence.encode()) % 10, "train")


def _below(generator: random.Random, limit: int) -> int:
    # random() is the only method whose sequence Python promises to keep between versions.
    return math.floor(generator.random() * limit)


_ENGLISH = Grammar(
    templates=(
        "turn on the {room} {device}",
        "please turn off the {device} in the {room}",
        "set the {room} heater at {number} degrees",
        "open the {colour} {opening} now",
        "shut the {opening} of the {room}",
        "bring {name} {number} {colour} {things}",
        "send {number} {things} from {city}",
        "{name} has {number} {colour} {things}",
        "put the {things} in the {colour} box",
        "call {name} {day} at {number} thirty",
        "meet {name} at {number} in {city}",
        "wake {name} at {number} {day}",
        "the train from {city} leaves {day}",
        "drive from {city} through {city2} {day}",
        "play {music} in the {room}",
        "{name} and {name2} live in {city}",
        "remind {name} about the {things}",
    ),
    words={
        "room": ("kitchen", "garden", "bedroom", "office", "garage", "library"),
        "device": ("lamp", "radio", "heater", "television"),
        "opening": ("window", "door", "curtain"),
        "colour": ("red", "blue", "green", "yellow", "purple", "black", "white"),
        "things": ("apples", "bottles", "candles", "flowers", "pencils", "tickets"),
        "number": (
            "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
            "twelve",
        ),
        "name": ("anna", "oliver", "maria", "peter", "sophie", "victor", "daniel"),
        "city": ("london", "boston", "paris", "chicago", "madrid", "tokyo", "sydney"),
        "day": ("today", "tomorrow", "on monday", "on friday", "on saturday", "next week"),
        "music": ("jazz", "music", "songs"),
    },
)  # fmt: skip

_KOREAN = Grammar(
    templates=(
        "{room} {device} 켜 주세요",
        "{day} {room} {device} 꺼 주세요",
        "{room} {opening} 열어 주세요",
        "{day} {hour} 시에 {opening} 닫아 주세요",
        "{day} {part} {hour} 시에 깨워 주세요",
        "{name}에게 {colour} {clothes} 보내 주세요",
        "{colour} {clothes} {room}에서 찾아 주세요",
        "{fruit} {count} 개를 {name}에게 주세요",
        "{name}에게 {part} {hour} 시에 전화해 주세요",
        "{city}에서 {city2}까지 기차로 가요",
        "{day} {city} 날씨를 알려 주세요",
        "{name}와 함께 {day} {city}에 가요",
    ),
    words={
        "room": ("거실", "부엌", "침실", "사무실", "도서관", "정원"),
        "device": ("불을", "라디오를", "텔레비전을", "선풍기를"),
        "opening": ("창문을", "커튼을", "냉장고를", "서랍을"),
        "clothes": ("모자를", "구두를", "우산을", "장갑을"),
        "colour": ("빨간", "파란", "노란", "하얀", "검은"),
        "fruit": ("사과", "포도", "딸기", "복숭아"),
        "count": ("한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟"),
        "hour": ("한", "두", "세", "다섯", "여섯", "일곱", "여덟", "아홉", "열"),
        "part": ("아침", "저녁", "오후"),
        "day": ("오늘", "내일", "월요일", "토요일", "다음 주"),
        "name": ("민수", "지혜", "현우", "미나", "영호"),
        "city": ("서울", "부산", "대구", "강릉", "인천", "광주"),
    },
)

GRAMMARS: Mapping[str, Grammar] = {"en": _ENGLISH, "ko": _KOREAN}
"""Grammars by language code."""
