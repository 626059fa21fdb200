"""``cache``: Whisper features of a corpus, or an encoder's outputs, as shards."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.preparation.cache_form import (
    CacheForm,
    EncoderForm,
    EncoderSettings,
    FeatureForm,
)
from components.preparation.cache_work import (
    CacheJob,
    Extracted,
    audio_name,
    audio_stamp,
    extracted,
)
from components.preparation.mel_failures import Failures
from components.preparation.mel_work import Outcome
from components.preparation.progress import Progress
from components.speech_llm.quantization import Quantization
from core.data.audio import AudioError
from core.data.cache import default_cache
from core.data.feature_index import StoredDtype
from core.data.feature_writer import FeatureWriter
from core.data.npy import ArrayError
from core.data.source import Source
from core.data.uri import open_source
from core.dist.ranks import pick_device
from core.errors import ConfigError, DataError
from core.registry import register

_SECONDS_AN_HOUR = 3600.0


@register("prepare", "cache")
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Store the Whisper features (128 bins) of every utterance of a corpus, as Voxtral reads them.

    Audio is decoded once, averaged to one channel, resampled to 16 kHz and never encoded again.
    Features are stored without their padding, which is put back on reading, bit for bit. Audio that
    cannot be used is written with the reason into ``failed.jsonl`` and not tried again. A run that
    is stopped loses at most the shard it was filling; the same command goes on.

    With ``encoder`` the outputs of a speech LLM's encoder are stored instead: 3.84 MB for each
    chunk of 30 s of Voxtral's in bf16, however short the audio. They are right for that encoder,
    quantised or not, and for no other.

    Args:
        manifest: JSONL manifest with audio_filepath, or a data source such as ``kaldi:FOLDER``.
        output: folder of the shards.
        workers: processes; None for one for each core.
        dtype: of what is stored, and that an encoder computes in. bf16 is what a model in bfloat16
            rounds features to anyway.
        shard_mb: size of a shard, in millions of bytes; as much is held in memory.
        retry_failed: try audio that failed before once more.
        verify: read everything back at the end and compare checksums.
        encoder: base model whose encoder's outputs are stored, a folder or an id on the hub; None
            to store features.
        quantization: of that model; as in training, or its outputs are others.
        device: that the encoder computes on.
    """

    manifest: str
    output: Path
    workers: int | None = None
    dtype: StoredDtype = "bf16"
    shard_mb: float = 500.0
    retry_failed: bool = False
    verify: bool = False
    encoder: str | None = None
    quantization: Quantization = "nf4"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __call__(self, say: Callable[[str], None]) -> None:
        """Store what is missing. Raises DataError, ConfigError; TrainingError if a worker dies."""
        workers = self.workers if self.workers is not None else os.cpu_count() or 1
        if workers < 1 or self.shard_mb <= 0:
            raise ConfigError(
                f"cache: workers={workers}, shard_mb={self.shard_mb:g}; expected more than 0"
            )
        source, form = self._source(), self._form()
        writer = FeatureWriter(
            folder=self.output,
            fingerprint=form.fingerprint,
            values=form.values,
            dtype=self.dtype,
            shard_bytes=round(self.shard_mb * 1e6),
        )
        counts: Counter[str] = Counter()
        notes: Counter[str] = Counter()
        with writer:
            failures = Failures(self.output, retry=self.retry_failed)
            progress = Progress(say, counts, total=len(source))
            try:
                jobs = self._jobs(source, writer, failures, counts)
                for result in extracted(jobs, workers=workers):
                    outcome = _store(result, form, writer)
                    failures.note(outcome)
                    if isinstance(result, Extracted) and outcome.fault is None:
                        notes.update(result.notes)
                    counts["made" if outcome.fault is None else "failed"] += 1
                    progress()
                writer.finish()
            finally:
                failures.close()
        self._report(say, form, counts, notes, failures.reasons())

    def _form(self) -> CacheForm:
        if self.encoder is None:
            return FeatureForm()
        settings = EncoderSettings(
            base=self.encoder,
            quantization=self.quantization,
            dtype=self.dtype,
            device=pick_device(self.device, 0),
        )
        return EncoderForm(settings)

    def _source(self) -> Source:
        uri = f"nemo:{self.manifest}" if Path(self.manifest).is_file() else self.manifest
        if ":" not in uri:
            raise DataError(f"manifest {self.manifest}: no such file")
        source = open_source(uri, cache_dir=default_cache())
        if not isinstance(source, Source):
            raise ConfigError(f"cache: {uri} can only be read from its beginning; use a manifest")
        return source

    def _jobs(
        self, source: Source, writer: FeatureWriter, failures: Failures, counts: Counter[str]
    ) -> Iterator[CacheJob]:
        """Yield what is to be extracted, in the manifest's order; count what is not."""
        seen: set[str] = set()
        for row in range(len(source)):
            counts["utterances"] += 1
            try:
                cut = source.cut(row)
            except AudioError as error:
                if error.utterance in failures:
                    counts["known"] += 1
                else:
                    _fail(failures, counts, error.utterance, "", (error.reason, error.detail))
                continue
            identity, audio = cut.id, audio_name(cut)
            if identity in seen:
                # Under a name of its own, or the row that has the id would count as failed.
                fault = ("duplicate id", f"'{identity}' is the id of a row before")
                _fail(failures, counts, f"{identity} (row {row + 1})", audio, fault)
                continue
            seen.add(identity)
            stored, stamp = writer.values(identity), audio_stamp(cut)
            if stored is not None and stored["audio"] != stamp:
                raise DataError(
                    f"{self.output}: the audio of '{identity}' ({audio}) is not what its features "
                    "were made of; make them again in another folder"
                )
            if stored is not None:
                counts["exists"] += 1
            elif identity in failures:
                counts["known"] += 1
            else:
                yield CacheJob(cut=cut, dtype=self.dtype, stamp=stamp)

    def _report(
        self,
        say: Callable[[str], None],
        form: CacheForm,
        counts: Counter[str],
        notes: Counter[str],
        reasons: dict[str, int],
    ) -> None:
        reader = form.open(self.output)
        size = sum((self.output / name).stat().st_size for name in reader.shard_names)
        hours = reader.total("samples") / 16000 / _SECONDS_AN_HOUR
        kind = "features" if self.encoder is None else "encoder outputs"
        say(f"{self.output}: {kind} of {len(reader):,} utterances, {counts['made']:,} made now")
        for name, text in _COUNTS.items():
            if counts[name]:
                say(f"  {text}: {counts[name]:,}")
        for note, number in sorted(notes.items()):
            say(f"  {note}: {number:,}")
        for reason, number in reasons.items():
            say(f"  failed, by reason: {reason}: {number:,}")
        say(
            f"  {hours:.2f} h of audio in {len(reader.shard_names):,} shards: {size / 1e6:,.1f} "
            f"MB, {size / 1e6 / hours:.1f} MB per hour"
        )
        if self.verify:
            damaged = reader.damaged()
            if damaged:
                raise DataError(
                    f"{self.output}: {len(damaged):,} of {len(reader):,} checksums are wrong, the "
                    f"first that of '{damaged[0]}'; remove its shard and give the command again"
                )
            say(f"  checksums verified: {len(reader):,}")


_COUNTS = {
    "utterances": "utterances looked at",
    "exists": "there already",
    "failed": "failed now",
    "known": "failed before and not tried again (--retry-failed)",
}


def _fail(
    failures: Failures, counts: Counter[str], identity: str, audio: str, fault: tuple[str, str]
) -> None:
    failures.note(Outcome(id=identity, audio=audio, fault=fault))
    counts["failed"] += 1


def _store(result: Extracted | Outcome, form: CacheForm, writer: FeatureWriter) -> Outcome:
    """Store what was extracted.

    An encoder may refuse it, such as audio of several chunks, and so may the store, such as an id
    that no array can have. A shard that cannot be written is no fault of an utterance.
    """
    if isinstance(result, Outcome):
        return result
    try:
        array, values = form.stored(result)
    except DataError as error:
        return Outcome(id=result.id, audio="", fault=("refused by the encoder", str(error)))
    try:
        writer.add(result.id, array, values)
    except ArrayError as error:
        return Outcome(id=result.id, audio="", fault=(error.reason, error.detail))
    return Outcome(id=result.id, audio="")
