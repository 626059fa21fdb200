"""A split without random access: batches from a buffer, resume by replay."""

from __future__ import annotations

from collections.abc import Iterable

from core.contracts import Batch, RunContext
from core.data.collate import Collate
from core.data.corpus import Corpus, CorpusOptions
from core.data.replay import ReplayStream, StreamOptions, evaluation_batches
from core.data.source import StreamSource


class StreamedCorpus(Corpus):
    """A source that is read from its beginning.

    Args:
        name: of the split.
        uri: of the source.
        source: opened.
        options: filters, plan and workers.
        context: of the run.
    """

    def __init__(
        self,
        *,
        name: str,
        uri: str,
        source: StreamSource,
        options: CorpusOptions,
        context: RunContext,
    ) -> None:
        super().__init__(name=name, uri=uri, options=options, context=context)
        self._source = source
        longest = min(options.max_seconds, options.plan.batch_seconds)
        self._options = StreamOptions(
            plan=options.plan,
            buffer=options.buffer,
            min_seconds=options.min_seconds,
            max_seconds=longest if options.training else None,
            least_seconds=options.least_seconds,
            chunk_seconds=options.chunk_seconds,
        )

    @property
    def source(self) -> StreamSource:
        """What is read."""
        return self._source

    def train_stream(self, collator: Collate) -> ReplayStream:
        """Return the training batches of this rank."""
        return ReplayStream(
            source=self._source,
            collator=collator,
            options=self._options,
            name=self.uri,
            seed=self.context.seed,
            rank=self.context.rank,
            world_size=self.context.world_size,
            loading=self.options.loading,
        )

    def eval_batches(self, collator: Collate) -> Iterable[Batch]:
        """Return this rank's part of the stream."""
        return evaluation_batches(
            source=self._source,
            collator=collator,
            options=self._options,
            rank=self.context.rank,
            world_size=self.context.world_size,
        )

    def summary(self) -> list[str]:
        """Say that nothing is known beforehand, what is filtered, and how resume works."""
        low, high = self._options.min_seconds, self._options.max_seconds
        bounds = f"from {low:g} s" if high is None else f"of {low:g} to {high:g} s"
        lines = [f"{self.name}: {self.uri}: a stream; uses utterances {bounds}, counted as it runs"]
        if self.options.training:
            lines.append(
                f"{self.name}: batches of up to {self.options.plan.batch_seconds:g} s from a "
                f"buffer of {self.options.buffer:,} utterances; endless; resume is by replay, "
                "with the same number of ranks and workers"
            )
        return lines
