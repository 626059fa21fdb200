"""Transcribed speech as the encoder of a speech LLM takes it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from components.datasets.feature_batches import (
    CHUNK_SECONDS,
    AudioFeatures,
    CachedFeatures,
    Transcripts,
)
from components.datasets.named_splits import NamedSplits
from components.features.encoder_cache import EncoderCache
from components.features.stored import StoredFeatures, open_stored
from components.features.whisper import WhisperFeatures
from components.speech_llm.base import find_base
from components.speech_llm.speech_llm import SpeechLLM
from core.contracts import Batch, BatchStream, RunContext
from core.contracts.components import TextForm
from core.data.assets import main_rank_first
from core.data.audio import AudioError
from core.data.corpus import Corpus, CorpusOptions
from core.data.feature_index import StoredDtype
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.source import Described, Source
from core.data.splits import TRAIN, Splits
from core.errors import ConfigError, DataError, suggest
from core.registry import register

_LOOKED_AT = 16


@register("data", "speech_llm")
class SpeechLLMData(NamedSplits):
    """Batches of Whisper features, or of encoder outputs, from sources named by URI.

    Features come from the audio, decoded once, or from a cache that ``python -m core.prepare
    cache`` made; both are the same, bit for bit. Every utterance of up to 30 s costs a model as
    much, so batches of training are drawn without regard to length and all have ``batch_size``
    rows. Longer audio has several chunks.

    Training leaves out what is outside ``min_seconds`` and ``max_seconds``, and counts it in the
    summary. Evaluation leaves out only what is shorter than ``min_eval_seconds``. Where the model
    is of a family that takes 30 s at once, validation and test skip what is longer, as training
    does; a source that is opened by command is heard part by part.

    Args:
        train: source of training, such as ``nemo:train.jsonl``.
        validation: sources of validation by split name.
        test: sources that are evaluated once, by split name.
        batch_size: utterances of a micro-batch.
        features: folder of the cache by split name, ``train`` for training; a split that is not
            named is read from its audio. From a cache, the audio need not be there.
        model: the task's own, whose encoder must have made a cache of encoder outputs; None where
            there is none. Where its base is missing, that is told before any source is read; what
            it cannot hear at once is skipped.
        text: normal form of the transcripts of training and validation; None for the text as it
            is. :meth:`open_split` always gives that.
        dtype: of features, or of encoder outputs; None for the model's, which rounds features to it
            anyway, and bf16 without a model.
        eval_batch_size: utterances of a batch of evaluation; None for ``batch_size``.
        min_seconds: shortest utterance of training.
        max_seconds: longest utterance of training.
        min_eval_seconds: shortest utterance of evaluation.
        workers: processes that load batches; 0 to load in the training process.
        timeout: seconds after which a worker that gives no batch counts as hung.
        buffer: utterances that each worker of a streaming source holds to shuffle.
        cache_dir: where derived files are kept; None for ``sori`` in the user's cache folder.
    """

    def __init__(
        self,
        *,
        train: str,
        validation: dict[str, str],
        test: dict[str, str],
        batch_size: int,
        features: dict[str, str] | None = None,
        model: SpeechLLM | None = None,
        text: TextForm | None = None,
        dtype: StoredDtype | None = None,
        eval_batch_size: int | None = None,
        min_seconds: float = 3.0,
        max_seconds: float = 25.0,
        min_eval_seconds: float = 0.1,
        workers: int = 0,
        timeout: float = 300.0,
        buffer: int = 1000,
        cache_dir: str | None = None,
    ) -> None:
        if batch_size < 1 or (eval_batch_size is not None and eval_batch_size < 1):
            raise ConfigError(
                f"speech_llm: batch_size={batch_size}, eval_batch_size={eval_batch_size}; "
                "expected at least 1"
            )
        if not 0 <= min_seconds < max_seconds < math.inf:
            raise ConfigError(
                f"speech_llm: min_seconds is {min_seconds:g} and max_seconds {max_seconds:g}; "
                "expected 0 or more, and less than the other"
            )
        self.train = train
        self.validation = dict(validation)
        self.test = dict(test)
        self.features = dict(features or {})
        self.model = model
        self.text = text
        self.dtype: StoredDtype = dtype or (model.dtype if model is not None else "bf16")
        self._extractor = WhisperFeatures()
        self._stores: dict[str, StoredFeatures] = {}
        longest = math.ceil(max_seconds / CHUNK_SECONDS) * CHUNK_SECONDS
        options = CorpusOptions(
            plan=PlanOptions(batch_seconds=batch_size * longest, max_utterances=batch_size),
            loading=LoaderOptions(workers=workers, timeout=timeout),
            buffer=buffer,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            training=True,
            chunk_seconds=CHUNK_SECONDS,
            fixed_rows=True,
        )
        rows = eval_batch_size or batch_size
        plan = PlanOptions(batch_seconds=rows * CHUNK_SECONDS, max_utterances=rows)
        self._splits = Splits(
            train=train,
            validation=validation,
            test=test,
            options=options,
            evaluation=replace(options, plan=plan, min_seconds=min_eval_seconds, fixed_rows=False),
            cache_dir=cache_dir,
        )

    def setup(self, context: RunContext) -> None:
        """Open all sources and caches, once the base model is known to be there.

        With ``context.training`` unset, a source and its cache are opened when its batches are
        asked for: a finished model is used where its training data are not.

        Raises:
            DataError: a source or a cache is missing or damaged, a cache was made by another
                processor or encoder, or has none of a source's utterances.
            ConfigError: a URI is not valid, two splits share a name, ``features`` names none, or a
                model that leaves its encoder out is to hear a split without encoder outputs.
            CheckpointError: files of the model's base are missing.
        """
        names = (TRAIN, *self._splits.uris)
        for split in self.features:
            if split not in names:
                raise ConfigError(
                    f"speech_llm: features of '{split}', which is no split; "
                    + suggest(split, names, noun="splits")
                )
        if context.training and self.model is not None:
            with main_rank_first(context):
                find_base(self.model.base)
        self._splits.setup(context)
        if not context.training:
            return
        with main_rank_first(context):
            for split in names:
                corpus = self._splits.train if split == TRAIN else self._splits.evaluation(split)
                self._store(split, corpus)
        self._require_encoded(names)

    def _require_encoded(self, splits: Iterable[str]) -> None:
        """Refuse splits that a model which trains without its encoder could not hear."""
        if self.model is None or self.model.with_encoder:
            return
        bare = [s for s in splits if not isinstance(self._stores.get(s), EncoderCache)]
        if bare:
            raise ConfigError(
                "model.with_encoder is off, so every split needs stored outputs of the encoder; "
                f"{', '.join(bare)} has none: name a cache made with --encoder in data.features, "
                "or set model.with_encoder=true"
            )

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""
        corpus = self._splits.train
        return corpus.train_stream(self._collator(TRAIN, corpus))

    def eval_batches(self, split: str) -> Iterable[Batch]:
        """Return this rank's share of a split, longest utterances first."""
        corpus = self._splits.evaluation(split)
        return corpus.eval_batches(self._collator(split, corpus))

    def open_split(self, uri: str) -> Iterable[Batch]:
        """Return a source, or a split by name, longest utterances first, with its own texts.

        A split by name is read from its cache, where it has one.
        """
        corpus = self._splits.open(uri)
        return corpus.eval_batches(self._collator(uri, corpus, raw=True))

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of each opened source by split, and of what its cache is made with."""
        caches = {
            f"features of {split}": store.reader.fingerprint.digest
            for split, store in self._stores.items()
        }
        return self._splits.fingerprint() | caches

    def summary(self) -> list[str]:
        """Return hours, utterances, what filters dropped, and where features come from."""
        lines = self._splits.summary()
        for split in self._splits.opened:
            lines.append(f"{split}: {self._origin(split)}")
        if self.text is not None:
            lines.append(f"transcripts: {self.text.fingerprint}")
        return lines

    def _origin(self, split: str) -> str:
        store = self._stores.get(split)
        if store is None:
            return f"features ({self.dtype}) from audio, extracted as it is read"
        kind = "encoder outputs" if isinstance(store, EncoderCache) else "features"
        return (
            f"{kind} ({self.dtype}) of {len(store.reader):,} utterances from {store.reader.folder}"
        )

    def _collator(
        self, split: str, corpus: Corpus, *, raw: bool = False
    ) -> AudioFeatures | CachedFeatures:
        transcripts = Transcripts(form=None if raw else self.text, required=not raw)
        store = self._store(split, corpus)
        most = self._most_chunks
        if store is not None:
            return CachedFeatures(store=store, transcripts=transcripts, most_chunks=most)
        self._extractor.load()
        return AudioFeatures(
            extractor=self._extractor,
            dtype=self.dtype,
            transcripts=transcripts,
            most_chunks=most,
        )

    @cached_property
    def _most_chunks(self) -> int | None:
        """Chunks that the model takes under one prompt; None for any number."""
        return None if self.model is None else find_base(self.model.base)[1].max_chunks

    def _store(self, split: str, corpus: Corpus) -> StoredFeatures | None:
        """Return the cache of a split, opened once; None where it has none."""
        if split not in self.features:
            return None
        if split not in self._stores:
            folder = Path(self.features[split]).expanduser()
            store = open_stored(folder, dtype=self.dtype, model=self.model)
            _check_same_corpus(store, corpus)
            self._stores[split] = store
        return self._stores[split]


def _check_same_corpus(store: StoredFeatures, corpus: Corpus) -> None:
    """Refuse a cache that has none of the utterances that are looked at."""
    source = corpus.source
    if not isinstance(source, Source):
        return
    usable = np.flatnonzero(source.durations > 0)
    spread = np.linspace(0, len(usable) - 1, min(_LOOKED_AT, len(usable))).astype(int)
    seen = []
    for row in usable[spread].tolist():
        try:
            cut = source.described(row) if isinstance(source, Described) else source.cut(row)
        except AudioError as error:
            seen.append(error.utterance)
        else:
            seen.append(cut.id)
    if seen and not any(identity in store.reader for identity in seen):
        raise DataError(
            f"{store.reader.folder} is of another corpus than {corpus.name} ({corpus.uri}): it has "
            f"none of {len(seen)} utterances looked at, such as '{seen[0]}'; its own are such as "
            f"'{store.reader.ids[0]}'"
        )
