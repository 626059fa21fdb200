"""Pairs of utterances in several styles, which the machine speaks itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.datasets.styled_corpus import SPEAKERS, ensure
from components.datasets.styled_speech import SPLITS, StyledParameters
from core.data.cache import default_cache
from core.errors import ConfigError, suggest
from core.registry import register

_LOCATIONS = {**{split: f"{split}.jsonl" for split in SPLITS}, "speakers": SPEAKERS}


@register("pairs", "demo")
class StyledPairs:
    """The corpus of Stage 2's demo: many voices of eSpeak NG in five styles.

    Neutral, hurried, subdued, lively and emphatic speech differ in rate, pitch, range of pitch,
    loudness and stress. Semantic codes (256, 12.5 a second) are nearest centroids of cepstra and
    pitch in units of the voice; speaker latents of a prompt tell the voice. The corpus is made
    once, in a minute or two, and kept in the cache.

    ``train``, ``validation`` and ``probe`` are pair manifests of the same 24 voices with disjoint
    sentences, ``unseen`` one of 8 other voices, ``speakers`` the mapping of the 24.

    Args:
        location: ``train``, ``validation``, ``probe``, ``unseen`` or ``speakers``.
        language: ``en`` or ``ko``.
        utterances: about how many of ``train``; ``probe`` has three quarters as many,
            ``validation`` an eighth, ``unseen`` half as many a voice. Below 240 there are fewer
            voices.
        seed: of sentences, rates, pitches and levels.
    """

    def __init__(
        self,
        *,
        location: str = "train",
        language: Literal["en", "ko"] = "en",
        utterances: int = 2880,
        seed: int = 0,
    ) -> None:
        if location not in _LOCATIONS:
            hint = suggest(location, _LOCATIONS, noun="parts")
            raise ConfigError(f"demo:{location}: there is no such part of the corpus; {hint}")
        if language not in ("en", "ko"):
            raise ConfigError(f"demo:{location}: language is '{language}', expected 'en' or 'ko'")
        if utterances < 10:
            raise ConfigError(f"demo:{location}: utterances is {utterances}, expected 10 or more")
        self.location = location
        self._parameters = StyledParameters(language=language, utterances=utterances, seed=seed)

    def open(self, cache_dir: Path | None) -> Path:
        """Return the manifest or the mapping, and make the corpus first if the cache has it not.

        Raises:
            DataError: eSpeak NG is not installed or fails, or the cache cannot be written.
        """
        return ensure(self._parameters, cache_dir or default_cache()) / _LOCATIONS[self.location]
