"""What is spoken in the demo of Stage 2: every voice in every style."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from components.datasets.demo_corpus import voices
from components.datasets.demo_text import GRAMMARS
from components.datasets.espeak_worker import Job

SPLITS = ("train", "validation", "probe", "unseen")
"""All but ``unseen`` have the same voices; no two share a sentence but ``probe`` and ``unseen``."""

TEXT_VOCAB = 128
FIRST_WORD = 2
"""Text ids below it are start and stop."""

_HEARD, _UNHEARD = 24, 8
_RATE, _PITCH = 150, 50
_SENTENCES = {"train": "train", "validation": "validation", "probe": "test", "unseen": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a sentence is said, relative to the voice.

    Args:
        rate: factor of the speaking rate.
        pitch: steps of eSpeak's pitch, on a scale of 100.
        pitch_range: eSpeak's range of pitch; 50 is the voice's own.
        emphasis: whether the sentence is stressed.
        level: peak amplitude.
    """

    rate: float = 1.0
    pitch: int = 0
    pitch_range: int = 50
    emphasis: bool = False
    level: float = 0.36


STYLES: Mapping[str, Style] = {
    "neutral": Style(level=0.19),
    "hurried": Style(rate=2.0, pitch=10, pitch_range=20, level=0.09),
    "subdued": Style(rate=0.75, pitch=-15, pitch_range=15, level=0.04),
    "lively": Style(rate=1.3, pitch=15, pitch_range=95, level=0.41),
    "emphatic": Style(rate=0.85, pitch_range=70, emphasis=True, level=0.86),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StyledParameters:
    """What the corpus is made from.

    Args:
        language: ``en`` or ``ko``.
        utterances: about how many of ``train``; the other splits follow from it.
        seed: of sentences, rates, pitches and levels.
    """

    language: str
    utterances: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One utterance of the corpus.

    Args:
        id: unique in the corpus.
        split: that it belongs to.
        style: a name of :data:`STYLES`.
        job: what eSpeak says.
    """

    id: str
    split: str
    style: str
    job: Job


def plan(parameters: StyledParameters) -> list[Utterance]:
    """Return what is to be spoken, a pure function of the parameters.

    Voices take turns, and so do the styles of a voice.
    """
    heard = voices("train", parameters.language)
    heard = heard[: min(_HEARD, max(2, parameters.utterances // 10))]
    others = voices("validation", parameters.language) + voices("test", parameters.language)
    each = max(2, parameters.utterances // len(heard))
    counts = {
        "train": (heard, each),
        "validation": (heard, max(2, each // 8)),
        "probe": (heard, max(5, 3 * each // 4)),
        "unseen": (others[: min(_UNHEARD, len(heard))], max(5, each // 2)),
    }
    planned: list[Utterance] = []
    for split, (speakers, times) in counts.items():
        # A generator for each split: of the sentences of "test", others for other splits.
        sentences = GRAMMARS[parameters.language].sentences(
            _SENTENCES[split], count=times * len(speakers), seed=_seed(parameters.seed, split)
        )
        for index, text in enumerate(sentences):
            turn, voice = divmod(index, len(speakers))
            style = tuple(STYLES)[(turn + voice) % len(STYLES)]
            name = f"{parameters.language}-{split}-{len(planned):06d}"
            job = _job(parameters, len(planned), text, voice=speakers[voice], style=STYLES[style])
            planned.append(Utterance(id=name, split=split, style=style, job=job))
    return planned


def words(language: str) -> dict[str, int]:
    """Return the text id of each word of a language's sentences.

    Raises:
        AssertionError: there are more than :data:`TEXT_VOCAB` ids.
    """
    vocabulary = GRAMMARS[language].vocabulary()
    assert FIRST_WORD + len(vocabulary) <= TEXT_VOCAB
    return {word: FIRST_WORD + place for place, word in enumerate(vocabulary)}


def text_ids(text: str, table: Mapping[str, int]) -> list[int]:
    """Return the text ids of a sentence."""
    return [table[word] for word in text.split()]


def _job(parameters: StyledParameters, index: int, text: str, *, voice: str, style: Style) -> Job:
    name = f"styled/{parameters.language}/{parameters.seed}/{index}"
    draw = random.Random(name).random
    return Job(
        index=index,
        text=text,
        voice=voice,
        rate=round(_RATE * style.rate * (0.9 + 0.2 * draw())),
        pitch=round(_PITCH + style.pitch - 5 + 10 * draw()),
        level=round(style.level * (0.85 + 0.3 * draw()), 3),
        seed=zlib.crc32(name.encode()) >> 1,
        pitch_range=style.pitch_range,
        emphasis=style.emphasis,
    )


def _seed(seed: int, split: str) -> int:
    return zlib.crc32(f"{seed}/{split}".encode())
