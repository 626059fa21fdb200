"""Transcribed speech for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from components.datasets.named_splits import NamedSplits
from core.contracts import Batch, BatchStream, RunContext, Tokenizer
from core.data.assets import prepare_tokenizer
from core.data.audio import Channel
from core.data.corpus import CorpusOptions
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.speech import SpeechCollator
from core.data.splits import Splits
from core.registry import register


@register("data", "speech")
class SpeechData(NamedSplits):
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
        self.channel = channel
        self.tokenizer_texts = tokenizer_texts
        self._splits = Splits(
            train=train,
            validation=validation,
            test=test,
            options=CorpusOptions(
                plan=PlanOptions(
                    batch_seconds=batch_seconds, max_utterances=max_batch, jitter=jitter
                ),
                loading=LoaderOptions(workers=workers, timeout=timeout),
                buffer=buffer,
                min_seconds=min_seconds,
                max_seconds=max_seconds,
                training=True,
            ),
            cache_dir=cache_dir,
        )

    def setup(self, context: RunContext) -> None:
        """Open all sources and make the tokenizer ready.

        With ``context.training`` unset only the tokenizer is loaded, and a source is opened when
        its batches are asked for: a finished model is used where its training data are not.

        Raises:
            DataError: a source is missing or damaged, or the tokenizer cannot be fitted or loaded.
            ConfigError: a URI is not valid, or two splits share a name.
        """
        self._splits.setup(context)
        if self.tokenizer is not None:
            texts = self._texts if context.training else None
            prepare_tokenizer(self.tokenizer, context=context, texts=texts, name=self.train)

    def _texts(self) -> Iterator[str]:
        return islice(self._splits.train.source.texts(), self.tokenizer_texts)

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""
        return self._splits.train.train_stream(self._collator)

    def eval_batches(self, split: str) -> Iterable[Batch]:
        """Return this rank's share of a split, longest utterances first."""
        return self._splits.evaluation(split).eval_batches(self._collator)

    def open_split(self, uri: str) -> Iterable[Batch]:
        """Return a source, or a split by name, longest utterances first, untokenised."""
        return self._splits.open(uri).eval_batches(replace(self._collator, tokenizer=None))

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of each opened source by split."""
        return self._splits.fingerprint()

    def summary(self) -> list[str]:
        """Return hours, utterances, what filters dropped, padding and the kind of resume."""
        lines = self._splits.summary()
        if self.tokenizer is not None and self.tokenizer.fitted:
            lines.append(f"tokenizer: {self.tokenizer.vocab_size} ids, blank included")
        return lines

    @property
    def _collator(self) -> SpeechCollator:
        return SpeechCollator(
            sample_rate=self.sample_rate, channel=self.channel, tokenizer=self.tokenizer
        )
