"""A corpus that the machine speaks itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.datasets.demo_corpus import DEFAULT_UTTERANCES, DemoParameters, ensure
from components.datasets.spoken import SpokenSource
from core.errors import ConfigError, suggest
from core.registry import register


@register("dataset", "demo")
class DemoSource(SpokenSource):
    """Short sentences spoken by eSpeak NG, so that a first training needs no download.

    The sentences come from a small grammar (about ninety words). Speakers of ``train``,
    ``validation`` and ``test`` are disjoint, and so are their sentences. A seed gives the same
    bytes on every run. The corpus is made once, in seconds, and kept in the cache.

    eSpeak NG comes with the wheel ``espeakng-loader`` (extra ``sori[demo]``). It is licensed under
    GPL-3.0-or-later, is opened only in a separate process, and is not part of this project.

    Args:
        location: the split: ``train``, ``validation`` or ``test``.
        language: ``en`` (American, English and Scottish accents) or ``ko``.
        utterances: how many; None for 2,400, 120 and 160.
        seed: of sentences, voices, rates, pitches and levels.
    """

    def __init__(
        self,
        *,
        location: str = "train",
        language: Literal["en", "ko"] = "en",
        utterances: int | None = None,
        seed: int = 0,
    ) -> None:
        if location not in DEFAULT_UTTERANCES:
            hint = suggest(location, DEFAULT_UTTERANCES, noun="splits")
            raise ConfigError(f"demo:{location}: there is no such split; {hint}")
        if language not in ("en", "ko"):
            raise ConfigError(f"demo:{location}: language is '{language}', expected 'en' or 'ko'")
        if utterances is not None and utterances < 1:
            raise ConfigError(f"demo:{location}: utterances is {utterances}, expected 1 or more")
        super().__init__(name=f"demo-{language}-{location}", uri=f"demo:{location}")
        self.location = location
        self._parameters = DemoParameters(
            split=location,
            language=language,
            utterances=DEFAULT_UTTERANCES[location] if utterances is None else utterances,
            seed=seed,
        )

    def _ensure(self, cache: Path) -> Path:
        return ensure(self._parameters, cache)
