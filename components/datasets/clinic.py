"""What patients say, spoken by the machine itself: the domain of the adapter's demo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from components.datasets.clinic_corpus import ClinicParameters, ensure
from components.datasets.spoken import SpokenSource
from core.errors import ConfigError, suggest
from core.registry import register

Group = Literal["adults", "children"]
DEFAULT_UTTERANCES = {"train": 768, "validation": 64, "test": 96}


@register("dataset", "clinic")
class ClinicSource(SpokenSource):
    """Short Korean sentences of patients, spoken by eSpeak NG.

    There are 32 sentences, the same in all splits; the voices of splits are disjoint. A seed gives
    the same bytes on every run. The corpus is made once, in seconds, and kept in the cache. Of
    eSpeak NG the same holds as for ``demo:``.

    Args:
        location: the split: ``train``, ``validation`` or ``test``.
        speakers: ``adults``, or ``children``, whose voices are 1.4 times as high.
        utterances: how many; None for 768, 64 and 96.
        seed: of voices, rates, pitches and levels.
    """

    def __init__(
        self,
        *,
        location: str = "train",
        speakers: Group = "children",
        utterances: int | None = None,
        seed: int = 0,
    ) -> None:
        uri = f"clinic:{location}"
        if location not in DEFAULT_UTTERANCES:
            hint = suggest(location, DEFAULT_UTTERANCES, noun="splits")
            raise ConfigError(f"{uri}: there is no such split; {hint}")
        if speakers not in get_args(Group):
            raise ConfigError(f"{uri}: speakers is '{speakers}', expected 'adults' or 'children'")
        if utterances is not None and utterances < 1:
            raise ConfigError(f"{uri}: utterances is {utterances}, expected 1 or more")
        super().__init__(name=f"clinic-{speakers}-{location}", uri=uri)
        self.location = location
        self._parameters = ClinicParameters(
            split=location,
            group=speakers,
            utterances=DEFAULT_UTTERANCES[location] if utterances is None else utterances,
            seed=seed,
        )

    def _ensure(self, cache: Path) -> Path:
        return ensure(self._parameters, cache)
