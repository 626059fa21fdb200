"""A source used as one split of a data module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from core.contracts import Batch, BatchStream, RunContext
from core.data.collate import Collate
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.source import AnySource


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions:
    """How a source is used.

    Args:
        plan: how batches are cut.
        loading: workers.
        buffer: utterances that a streaming source holds to sort and shuffle.
        min_seconds: shortest utterance.
        max_seconds: longest utterance of training, which also leaves out what is longer than a
            batch. Evaluation has no longest utterance.
        training: whether batches are shuffled and resumable.
        least_seconds: length that a shorter utterance takes up in a batch.
        chunk_seconds: lengths count in a batch as the whole chunks that they fill; 0 as they are.
        fixed_rows: every batch of training has ``plan.max_utterances``, the last of them perhaps
            less; ``plan.batch_seconds`` must have room for as many of the longest.
    """

    plan: PlanOptions
    loading: LoaderOptions
    buffer: int
    min_seconds: float
    max_seconds: float
    training: bool
    least_seconds: float = 0.0
    chunk_seconds: float = 0.0
    fixed_rows: bool = False


class Corpus(ABC):
    """A split of a data module.

    Args:
        name: of the split.
        uri: of the source.
        options: filters, plan and workers.
        context: of the run.
    """

    def __init__(self, *, name: str, uri: str, options: CorpusOptions, context: RunContext) -> None:
        self.name = name
        self.uri = uri
        self.options = options
        self.context = context

    @property
    @abstractmethod
    def source(self) -> AnySource:
        """What is read."""

    @abstractmethod
    def train_stream(self, collator: Collate) -> BatchStream:
        """Return the training batches of this rank."""

    @abstractmethod
    def eval_batches(self, collator: Collate) -> Iterable[Batch]:
        """Return this rank's share of all utterances, in a fixed order."""

    @abstractmethod
    def summary(self) -> list[str]:
        """Return lines for the run header."""
