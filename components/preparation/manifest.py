"""``manifest``: from a list or a Kaldi folder to a manifest of normalised transcripts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from components.preparation.durations import DurationHistogram
from components.preparation.own_inputs import refuse_own_inputs
from components.preparation.utterances import Listing, Utterance, read_listing
from components.text.normalizer import TextNormalizer
from core.checkpoint.atomic import write_bytes, write_text
from core.contracts.components import TextForm
from core.errors import ConfigError, DataError
from core.registry import register

_EXAMPLES = 5


@register("prepare", "manifest")
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Make a manifest from an SCP list with transcripts, a ``.trn`` list, or a Kaldi folder.

    Durations come from the audio headers (a ``.pcm`` file without one is 16 kHz, 16 bits, mono),
    transcripts are normalised, and utterances outside ``min_seconds`` to ``max_seconds``, both
    included, are left out. Each reason for leaving one out is counted, with examples. A duration
    histogram is printed; ``.report.json`` beside the output has it with the counts and the
    fingerprint of the normaliser. A row has ``id``, ``audio_filepath`` (absolute), ``duration``,
    ``text``, ``lang`` and, where there are any, ``offset``, ``speaker`` and ``raw_text``, the
    transcript before it was changed. Commands in ``wav.scp`` are refused and never executed. Train
    on it with ``nemo:OUTPUT``.

    Args:
        source: SCP list with ``id path`` lines, KsponSpeech's ``.trn`` with ``path :: text`` lines,
            or Kaldi folder with wav.scp, text and, if there, segments and utt2spk.
        output: manifest, one JSON object a line.
        transcripts: file with ``id text`` lines; a Kaldi folder and a ``.trn`` have their own.
        root: folder that relative audio paths start from; the working directory if not given.
        encoding: of the transcripts, utf-8 (with or without byte order mark) or cp949.
        min_seconds: shortest utterance.
        max_seconds: longest utterance.
        language: of the transcripts, ko or en.
        kspon: side of the dual transcriptions (A)/(B) of KsponSpeech to take; removes its tags.
        brackets: drop bracketed notes, unwrap or keep them.
        punctuation: drop or keep what only punctuates.
        symbols: drop or keep percent signs, units and other symbols.
        lowercase: map transcripts to lower case.
        replacements: TSV or JSON table of the terms of a domain.
        force: replace an output that exists, unless it is what is read.
    """

    source: Path
    output: Path
    transcripts: Path | None = None
    root: Path | None = None
    encoding: Literal["utf-8", "cp949"] = "utf-8"
    min_seconds: float = 3.0
    max_seconds: float = 25.0
    language: Literal["ko", "en"] = "ko"
    kspon: Literal["orthographic", "phonetic"] | None = None
    brackets: Literal["drop", "unwrap", "keep"] = "drop"
    punctuation: Literal["drop", "keep"] = "drop"
    symbols: Literal["drop", "keep"] = "keep"
    lowercase: bool = False
    replacements: Path | None = None
    force: bool = False

    def __call__(self, say: Callable[[str], None]) -> None:
        """Make the manifest. Raises DataError on bad tables, or if no utterance is left."""
        if not 0 <= self.min_seconds < self.max_seconds < math.inf:
            raise ConfigError(
                f"manifest: min_seconds is {self.min_seconds:g} and max_seconds "
                f"{self.max_seconds:g}; expected 0 or more, and less than the other"
            )
        path = self.output.with_suffix(".report.json")
        refuse_own_inputs([self.output, path], self._inputs())
        if self.output.exists() and not self.force:
            raise DataError(f"{self.output} exists; --force replaces it")
        normalizer = TextNormalizer(
            language=self.language,
            brackets=self.brackets,
            kspon=self.kspon,
            punctuation=self.punctuation,
            symbols=self.symbols,
            lowercase=self.lowercase,
            replacements=self.replacements,
        )
        fingerprint = normalizer.fingerprint
        listing = read_listing(
            self.source, self.transcripts, root=self.root, encoding=self.encoding
        )
        chosen = self._choose(listing, normalizer)
        report = chosen.report() | {
            "source": str(self.source),
            "transcripts": str(listing.place),
            "transcripts_without_audio": len(listing.unheard),
            "headerless": listing.headerless,
            "min_seconds": self.min_seconds,
            "max_seconds": self.max_seconds,
            "normalizer": fingerprint,
        }
        if not chosen.rows:
            raise DataError(
                f"{self.source}: no utterance is left. Found: "
                f"{json.dumps(report, ensure_ascii=False)}"
            )
        content = b"".join(orjson.dumps(row) + b"\n" for row in chosen.rows)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        report["sha256"] = hashlib.sha256(content).hexdigest()
        write_text(path, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        write_bytes(self.output, content)
        self._tell(say, chosen, listing)
        say(f"  {fingerprint}")
        say(f"  report: {path}")

    def _inputs(self) -> list[Path]:
        tables = list(self.source.iterdir()) if self.source.is_dir() else [self.source]
        return tables + [path for path in (self.transcripts, self.replacements) if path is not None]

    def _choose(self, listing: Listing, normalizer: TextForm) -> _Chosen:
        chosen = _Chosen(DurationHistogram(limits=(self.min_seconds, self.max_seconds)))
        for utterance in listing.utterances():
            text = "" if utterance.text is None else normalizer(utterance.text)
            fault = utterance.fault or self._fault(utterance, text, normalizer)
            chosen.add(utterance, text, self.language, fault)
        return chosen

    def _fault(
        self, utterance: Utterance, text: str, normalizer: TextForm
    ) -> tuple[str, str] | None:
        """Return why an utterance is left out, a reason and a detail; None if it stays."""
        seconds = utterance.seconds or 0.0
        if utterance.text is None:
            return "no transcript", str(utterance.audio)
        if fault := normalizer.fault(utterance.text):
            return fault, utterance.text
        if not text:
            return "empty transcript", utterance.text
        if seconds <= 0:
            return "zero duration", str(utterance.audio)
        if seconds < self.min_seconds:
            return f"shorter than {self.min_seconds:g} s", f"{seconds:.3f} s"
        if seconds > self.max_seconds:
            return f"longer than {self.max_seconds:g} s", f"{seconds:.3f} s"
        return None

    def _tell(self, say: Callable[[str], None], chosen: _Chosen, listing: Listing) -> None:
        say(
            f"{self.output}: {len(chosen.rows):,} of {chosen.total:,} utterances, "
            f"{chosen.seconds / 3600:.2f} h"
        )
        for reason, (count, seconds, examples) in sorted(chosen.left_out.items()):
            identity, detail = next(iter(examples.items()))
            say(
                f"  left out, {reason}: {count:,} ({seconds / 3600:.2f} h), such as "
                f"{identity}: {detail}"
            )
        if count := listing.headerless:
            say(f"  without a header, read as 16 kHz, 16 bits, mono: {count:,}")
        if listing.unheard:
            count = len(listing.unheard)
            say(f"  transcripts without audio: {count:,}, such as {listing.unheard[0]}")
        for line in chosen.histogram.lines():
            say(f"  {line}")


@dataclass
class _Chosen:
    """Rows that stay, and counts of those that do not."""

    histogram: DurationHistogram
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    total: int = 0
    left_out: dict[str, tuple[int, float, dict[str, str]]] = field(default_factory=dict)

    def add(
        self, utterance: Utterance, text: str, language: str, fault: tuple[str, str] | None
    ) -> None:
        self.total += 1
        seconds = utterance.seconds
        if seconds is not None:
            self.histogram.add(max(0.0, seconds), kept=fault is None)
        if fault is not None:
            reason, detail = fault
            count, lost, examples = self.left_out.get(reason, (0, 0.0, {}))
            if count < _EXAMPLES:
                examples[utterance.id] = detail
            self.left_out[reason] = (count + 1, lost + (seconds or 0.0), examples)
            return
        self.seconds += seconds or 0.0
        row: dict[str, Any] = {
            "id": utterance.id,
            "audio_filepath": str(utterance.audio),
            "duration": round(seconds or 0.0, 6),
            "text": text,
            "lang": language,
        }
        optional = {"offset": utterance.offset, "speaker": utterance.speaker}
        optional["raw_text"] = utterance.text if utterance.text != text else None
        self.rows.append(row | {k: v for k, v in optional.items() if v is not None})

    def report(self) -> dict[str, Any]:
        return {
            "utterances": self.total,
            "kept": len(self.rows),
            "kept_hours": round(self.seconds / 3600, 6),
            "left_out": {
                reason: {"count": count, "hours": round(seconds / 3600, 6), "examples": examples}
                for reason, (count, seconds, examples) in sorted(self.left_out.items())
            },
            "durations": self.histogram.bins(),
        }
