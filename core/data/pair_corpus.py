"""A pair manifest used as one split of a data module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from core.contracts import UNMAPPED, RunContext, SpeechPairBatch, UtteranceSample
from core.data.loading import Feed, LoaderOptions, Requests, guarded, make_loader
from core.data.npy import ArrayError, Indices
from core.data.pair_sample import choose_utterances
from core.data.pairs import MEL_BITS, Pair, PairLoader, PairOptions, rows_by_length
from core.data.pairs_index import open_pairs
from core.data.pairs_order import OrderOptions, Place, block_order
from core.data.pairs_stream import PairStream, Request, Supply
from core.data.speaker_mapping import classes, coverage, refuse_no_hits
from core.errors import DataError

Rest: TypeAlias = Literal["stop", "stored"]

_SAMPLES = 32


class PairCorpus:
    """Rows of a manifest that can be used, checked by looking at a few of them.

    Args:
        name: of the split.
        path: of the manifest.
        options: what a row becomes; a shape of speaker latents or a size of emotion vectors that
            they leave open is taken from the first row.
        batch_size: rows of a micro-batch.
        mapping: class of each speaker; empty for no classes.
        mapping_name: of the mapping, for messages.
        context: of the run.
        cache_dir: where the index is kept if the manifest's folder cannot be written.
        strangers: accept that the mapping has none of the speakers: an open set to test on.

    Raises:
        DataError: the manifest is damaged, no row can be used, or the mapping has none of its
            speakers.
    """

    def __init__(
        self,
        *,
        name: str,
        path: Path,
        options: PairOptions,
        batch_size: int,
        mapping: Mapping[str, int],
        mapping_name: str,
        context: RunContext,
        cache_dir: Path | None,
        strangers: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.context = context
        self.index = open_pairs(path, cache_dir=cache_dir)
        self._batch_size = batch_size
        self._bits = MEL_BITS[options.emotion]
        self.with_mel = self.index.prefix(self._bits)
        self.rows = len(self.index) if options.fallback else self.with_mel
        """Rows that can be used."""
        if not self.rows:
            raise DataError(self._no_mel(options))
        self._classes = classes(self.index, mapping)
        self._has_mapping = bool(mapping)
        if mapping and not strangers:
            refuse_no_hits(self.index, mapping, self.rows, mapping_name)
        self._loader = PairLoader(index=self.index, speakers=self._classes, options=options)
        self._looked_at = self._some_rows()
        self._faults: list[str] = []
        self._loader.options = self._shaped(options)

    @property
    def fingerprint(self) -> str:
        """Digest of all rows."""
        return self.index.digest()

    def train_stream(
        self, order: OrderOptions, loading: LoaderOptions, *, limit: int | None = None
    ) -> PairStream:
        """Return the training batches of this rank, of the first ``limit`` rows."""
        total = min(limit or len(self.index), len(self.index))
        return PairStream(
            index=self.index,
            supply=Supply(rows=min(self.rows, total), total=total, refill=self._refill()),
            load=self._loader,
            order=order,
            batch_size=self._batch_size,
            seed=self.context.seed,
            rank=self.context.rank,
            world_size=self.context.world_size,
            loading=loading,
        )

    def eval_batches(self, loading: LoaderOptions) -> Iterable[SpeechPairBatch]:
        """Return this rank's share of the usable rows, longest first."""
        plan = list(rows_by_length(self.index.code_lengths, self.rows, self._batch_size))
        return self._batches(plan[self.context.rank :: self.context.world_size], loading)

    def sample(self, limit: int, seed: int, loading: LoaderOptions) -> UtteranceSample:
        """Return utterances with mel, each once: of speakers with a class, then of the others.

        Raises:
            DataError: no row has mel.
        """
        if not self.with_mel:
            raise DataError(self._no_mel(self._loader.options))
        known = (self._classes != UNMAPPED)[np.asarray(self.index.speakers[: self.with_mel])]
        if not self._has_mapping:
            known[:] = True
        plan: list[Indices] = []
        notes: list[str] = []
        for kind, places in (("", known), (" without a class", ~known)):
            rows = np.flatnonzero(places)
            if not rows.size:
                continue
            choice = choose_utterances(
                self.index, rows, utterance=self._utterance, limit=limit, seed=seed
            )
            notes.append(
                f"{self.name}: {choice.rows.size:,} utterances of {choice.speakers:,} speakers"
                f"{kind}, from {rows.size:,} rows of {choice.of_speakers:,}"
            )
            starts = range(self._batch_size, choice.rows.size, self._batch_size)
            plan += np.split(choice.rows, list(starts))
        return UtteranceSample(
            batches=self._batches(plan, loading),
            count=sum(rows.size for rows in plan),
            notes=tuple(notes),
        )

    def _utterance(self, number: int) -> str:
        utterance: str = self.index.row(number)[f"{self._loader.side(number, 0)}_id"]
        return utterance

    def _batches(self, plan: list[Indices], loading: LoaderOptions) -> Iterable[SpeechPairBatch]:
        feed: Feed[Request] = Feed()
        feed.requests = [(0, rows) for rows in plan]
        loader = make_loader(Requests(self._loader), loading, sampler=feed)
        return guarded(loader, workers=loading.workers)

    def summary(self) -> list[str]:
        """Return rows, how many have mel, and what the mapping covers."""
        total = len(self.index)
        lines = [
            f"{self.name}: {self.path}: {total:,} pairs; the first {self.with_mel:,} "
            f"({self.with_mel / total:.2%}) have mel"
        ]
        later = int(np.count_nonzero((self.index.mels & self._bits) == self._bits)) - self.with_mel
        if later:
            lines.append(
                f"{self.name}: {later:,} rows with mel stand behind rows without and are not "
                "reached; run core.prepare order"
            )
        if self._faults:
            lines.append(
                f"{self.name}: of {len(self._looked_at)} rows looked at, {len(self._faults)} "
                f"cannot be used; the first: {self._faults[0]}"
            )
        if self._has_mapping:
            covered = coverage(self.index, self._classes, self.rows)
            stranger = "" if covered.rows else ": an open set of speakers"
            lines.append(f"{self.name}: speaker mapping: {covered}{stranger}")
        return lines

    def train_summary(
        self, order: OrderOptions, loading: LoaderOptions, *, limit: int | None = None
    ) -> list[str]:
        """Return how rows are shuffled and what of the first block is padding."""
        used = min(self.rows, limit or self.rows)
        place = Place().within(used, order.block)
        rows = block_order(
            self.index.code_lengths,
            self.index.speakers,
            order,
            seed=self.context.seed,
            epoch=0,
            place=place,
        )
        lengths = np.asarray(self.index.code_lengths)[rows].astype(np.float64)
        starts = np.arange(0, lengths.size, self._batch_size)
        longest = np.maximum.reduceat(lengths, starts)
        sizes = np.diff(np.append(starts, lengths.size))
        padding = 1.0 - lengths.sum() / float((longest * sizes).sum())
        limited = f"the first {limit:,} rows alone; " if limit is not None else ""
        return [
            f"{self.name}: {limited}batches of {self._batch_size} rows, shuffled in blocks of "
            f"{order.block:,}; {padding:.1%} of semantic tokens are padding in the first; the "
            f"position counts rows; {loading.workers} workers"
        ]

    def _some_rows(self) -> list[int]:
        """Return rows from all over the manifest, and the first of each kind."""
        numbers = np.linspace(0, self.rows - 1, _SAMPLES).astype(np.int64)
        found: list[int] = np.union1d(numbers, self._leading()).tolist()
        return found

    def _leading(self) -> list[int]:
        """Return the first row with mel, and the first of those that are used without."""
        return [0, self.with_mel] if self.with_mel < self.rows else [0]

    def _shaped(self, options: PairOptions) -> PairOptions:
        """Look at a few rows; return the options with the shapes of the first that can be used.

        A first row that is wrong is a systematic fault more often than not, and better met before
        training than as millions of skipped rows. A missing file is, only if all are missing.

        Raises:
            DataError: the first row with or without mel is wrong, or no file of the rows is there.
        """
        usable: list[Pair] = []
        leading = self._leading()
        for number in self._looked_at:
            row = self.index.row(number)
            try:
                usable.append(self._loader.pair(row, number, 0, Counter()))
            except ArrayError as error:
                text = f"row {number + 1} '{row['id']}': {error}"
                self._faults.append(text)
                if number in leading and not error.reason.endswith("missing file"):
                    raise DataError(f"{self.path}: {text}") from error
        if not usable:
            raise DataError(
                f"{self.path}: none of the {len(self._looked_at)} rows looked at can be used; the "
                f"first: {self._faults[0]}\n{self._make_mel()}"
            )
        length, width = usable[0].condition.shape
        sizes = [pair.vector.numel() for pair in usable if pair.vector is not None]
        size = options.vector_size or (sizes[0] if sizes else None)
        return replace(options, condition_shape=(length, width), vector_size=size)

    def _no_mel(self, options: PairOptions) -> str:
        named = int(np.count_nonzero((self.index.mels & self._bits) == self._bits))
        wanted = "target_mel_path" if options.emotion == "target" else "prompt_mel_path"
        if options.emotion == "mix":
            wanted = "target_mel_path and prompt_mel_path"
        if named:
            return (
                f"{self.path}: {named:,} of {len(self.index):,} rows have {wanted}, but not the "
                f"first one: rows with mel must lead.\n{self._make_mel()}"
            )
        return (
            f"{self.path}: mel not found: no row of {len(self.index):,} has {wanted}."
            f"\n{self._make_mel()}"
        )

    def _make_mel(self) -> str:
        return (
            f"Make mel with 'python -m core.prepare mel {self.path}{self._side}', then put the "
            f"rows that have it first with 'python -m core.prepare order {self.path}{self._side}'."
        )

    def _refill(self) -> str:
        return (
            f"Make more mel with 'python -m core.prepare mel {self.path}{self._side}' and bring "
            f"its rows to the front with 'python -m core.prepare order {self.path}{self._side}'."
        )

    @property
    def _side(self) -> str:
        """The option of the verbs that make and order mel."""
        sides = {MEL_BITS["prompt"]: " --side prompt", MEL_BITS["mix"]: " --side both"}
        return sides.get(self._bits, "")
