"""Transcribed speech for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from core.contracts import Batch, BatchStream, RunContext, Tokenizer
from core.data.assets import main_rank_first, prepare_tokenizer
from core.data.audio import Channel
from core.data.cache import default_cache
from core.data.corpora import open_corpus
from core.data.corpus import Corpus, CorpusOptions
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.speech import SpeechCollator
from core.errors import ConfigError, suggest
from core.registry import register


@register("data", "speech")
class SpeechData:
    """Batches of audio and token ids from sources named by URI.

    Utterances outside ``min_seconds`` and ``max_seconds`` are left out of training and counted in
    the summary. Evaluation leaves out only what is shorter than ``min_seconds``.

    Args:
        train: source of training, such as ``nemo:train.jsonl``.
        validation: sources of validation by split name.
        test: sources that are evaluated once, by split name.
        tokenizer: of transcripts; fitted on the training texts unless it already knows its
            vocabulary. None for audio without targets.
        sample_rate: of batches in Hz; audio of other rates is resampled.
        batch_seconds: most seconds of a micro-batch, padding included.
        max_batch: most utterances of a micro-batch; None for no limit.
        min_seconds: shortest utterance.
        max_seconds: longest utterance of training; an utterance longer than ``batch_seconds`` is
            left out as well, with its own count.
        channel: what to do with audio of several channels: ``refuse``, ``mean`` or a number.
        workers: processes that load training batches; 0 to load in the training process.
        timeout: seconds after which a worker that gives no batch counts as hung.
        jitter: share by which lengths may vary when batches are planned; see
            :class:`core.data.plan.PlanOptions`.
        buffer: utterances that each worker of a streaming source holds to sort and shuffle.
        tokenizer_texts: most training texts that the tokenizer is fitted on, in stored order; None
            for all. Streams of millions of rows are slow to read to their end.
        cache_dir: where derived files are kept; None for ``sori`` in the user's cache folder.
    """

    def __init__(
        self,
        *,
        train: str,
        validation: dict[str, str],
        test: dict[str, str],
        tokenizer: Tokenizer | None,
        batch_seconds: float,
        sample_rate: int = 16000,
        max_batch: int | None = None,
        min_seconds: float = 0.1,
        max_seconds: float = 30.0,
        channel: Channel = "refuse",
        workers: int = 0,
        timeout: float = 300.0,
        jitter: float = 0.02,
        buffer: int = 1000,
        tokenizer_texts: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self.train = train
        self.validation = dict(validation)
        self.test = dict(test)
        self.tokenizer = tokenizer
        self.sample_rate = sample_rate
        self.batch_seconds = batch_seconds
        self.max_batch = max_batch
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds
        self.channel = channel
        self.workers = workers
        self.timeout = timeout
        self.jitter = jitter
        self.buffer = buffer
        self.tokenizer_texts = tokenizer_texts
        self.cache_dir = cache_dir
        self._context: RunContext | None = None
        self._corpora: dict[str, Corpus] = {}

    def setup(self, context: RunContext) -> None:
        """Open all sources and make the tokenizer ready.

        With ``context.training`` unset only the tokenizer is loaded, and a source is opened when
        its batches are asked for: a finished model is used where its training data are not.

        Raises:
            DataError: a source is missing or damaged, or the tokenizer cannot be fitted or loaded.
            ConfigError: a URI is not valid, or two splits share a name.
        """
        self._context = context
        shared = sorted(self.validation.keys() & self.test.keys() | self._splits.keys() & {"train"})
        if shared:
            raise ConfigError(f"splits need names of their own; used twice: {', '.join(shared)}")
        if context.training:
            # One rank builds what all ranks then find in the cache.
            with main_rank_first(context):
                for split in ("train", *self._splits):
                    self._corpus(split)
        if self.tokenizer is not None:
            texts = self._texts if context.training else None
            prepare_tokenizer(self.tokenizer, context=context, texts=texts, name=self.train)

    def _texts(self) -> Iterator[str]:
        return islice(self._corpora["train"].source.texts(), self.tokenizer_texts)

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""
        return self._corpus("train").train_stream(self._collator)

    def eval_batches(self, split: str) -> Iterable[Batch]:
        """Return this rank's share of a split, longest utterances first."""
        if split not in self._splits:
            raise ConfigError(f"no split '{split}'; " + suggest(split, self._splits, noun="splits"))
        return self._corpus(split).eval_batches(self._collator)

    def open_split(self, uri: str) -> Iterable[Batch]:
        """Return a source, or a split by name, longest utterances first, untokenised."""
        corpus = open_corpus(
            name=uri,
            uri=self._splits.get(uri, uri),
            options=self._options(uri),
            context=self._ready,
            cache_dir=self._cache,
        )
        return corpus.eval_batches(replace(self._collator, tokenizer=None))

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Names of the validation sources."""
        return tuple(self.validation)

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Names of the test sources."""
        return tuple(self.test)

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of each opened source by split."""
        return {split: corpus.source.fingerprint for split, corpus in self._corpora.items()}

    def summary(self) -> list[str]:
        """Return hours, utterances, what filters dropped, padding and the kind of resume."""
        lines = [line for corpus in self._corpora.values() for line in corpus.summary()]
        if self.tokenizer is not None and self.tokenizer.fitted:
            lines.append(f"tokenizer: {self.tokenizer.vocab_size} ids, blank included")
        return lines

    @property
    def _splits(self) -> dict[str, str]:
        return self.validation | self.test

    @property
    def _ready(self) -> RunContext:
        if self._context is None:
            raise RuntimeError("SpeechData is used before setup()")
        return self._context

    @property
    def _collator(self) -> SpeechCollator:
        return SpeechCollator(
            sample_rate=self.sample_rate, channel=self.channel, tokenizer=self.tokenizer
        )

    @property
    def _cache(self) -> Path:
        return Path(self.cache_dir).expanduser() if self.cache_dir else default_cache()

    def _corpus(self, split: str) -> Corpus:
        if split not in self._corpora:
            uri = self.train if split == "train" else self._splits[split]
            self._corpora[split] = open_corpus(
                name=split,
                uri=uri,
                options=self._options(split),
                context=self._ready,
                cache_dir=self._cache,
            )
        return self._corpora[split]

    def _options(self, split: str) -> CorpusOptions:
        return CorpusOptions(
            plan=PlanOptions(
                batch_seconds=self.batch_seconds,
                max_utterances=self.max_batch,
                jitter=self.jitter,
            ),
            loading=LoaderOptions(
                workers=self.workers, timeout=self.timeout, pin_memory=torch.cuda.is_available()
            ),
            buffer=self.buffer,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            training=split == "train",
        )
