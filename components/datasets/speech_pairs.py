"""Pairs of a target utterance and a prompt of the same speaker, by a manifest of arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from components.datasets.named_splits import NamedSplits
from core.contracts import BatchStream, PairForm, RunContext, SpeechPairBatch, UtteranceSample
from core.data.assets import main_rank_first
from core.data.cache import default_cache
from core.data.loading import LoaderOptions
from core.data.pair_corpus import PairCorpus, Rest
from core.data.pair_source import located
from core.data.pairs import Emotion, PairOptions
from core.data.pairs_order import OrderOptions
from core.data.speaker_mapping import run_mapping
from core.errors import ConfigError, suggest
from core.registry import register

TRAIN = "train"


@register("data", "speech_pairs")
class SpeechPairData(NamedSplits):
    """Batches of text, semantic codes, speaker latents and mel from pair manifests.

    A row is trained on while it has mel: such rows lead the manifest, as ``core.prepare order``
    arranges it. When they are used up the run saves and ends with status 0; after more mel has been
    made and ordered, the same command goes on behind them. The position counts rows, so the batch
    size and the number of ranks may change on the way. See :mod:`core.data.pairs_order` for the
    order of rows.

    Args:
        train: pair manifest of training: a path, or a URI such as ``demo:train``.
        validation: pair manifests by split name; of theirs, rows without mel are treated alike.
        test: pair manifests that are evaluated once, by split name. Their speakers need not be in
            the mapping: an open set.
        speakers: JSON mapping from speaker to class; None for no classes. The run keeps a copy as
            ``speakers.json`` among its assets, which decides from then on.
        batch_size: rows of a micro-batch.
        limit: train on the first so many rows alone, as if the manifest had no more; None for all.
        emotion: the utterance whose mel (and stored emotion vector) is given; ``mix`` draws it for
            each row and epoch, and needs rows that have both mels.
        mix: probability of the prompt with ``emotion="mix"``.
        without_mel: ``stop``: the stream ends where rows without mel begin. ``stored``: it goes on
            with their stored emotion vectors, without mel and without speaker class.
        vectors: give the stored emotion vectors of rows with mel too.
        num_bins: of a mel frame.
        max_mel_frames: a longer mel loses its end, and ``cropped mels`` counts it; 2,584 frames
            are 30 s at 22,050 Hz and a hop of 256.
        max_codes: rows with more semantic tokens are left out, with the reason.
        max_text: rows with more text tokens are left out, with the reason.
        token_seconds: seconds that one semantic token stands for, by which speed is shown.
        block: rows that are shuffled together.
        bucket: rows of similar length that stay together in a block; a batch size that divides it
            has the least padding.
        rows_per_speaker: K above 1 puts K rows of one speaker side by side, and those of as many
            speakers as there are beside them, so that a batch has ``batch_size / K`` speakers.
        workers: processes that load training batches; 0 to load in the training process.
        timeout: seconds after which a worker that gives no batch counts as hung.
        cache_dir: where an index is kept if the manifest's folder cannot be written; None for
            ``sori`` in the user's cache folder.
    """

    def __init__(
        self,
        *,
        train: str,
        validation: dict[str, str],
        test: dict[str, str],
        speakers: str | None,
        batch_size: int,
        limit: int | None = None,
        emotion: Literal["target", "prompt", "mix"] = "target",
        mix: float = 0.25,
        without_mel: Literal["stop", "stored"] = "stop",
        vectors: bool = False,
        num_bins: int = 80,
        max_mel_frames: int = 2584,
        max_codes: int = 1815,
        max_text: int = 600,
        token_seconds: float = 0.02,
        block: int = 16384,
        bucket: int = 256,
        rows_per_speaker: int = 1,
        workers: int = 0,
        timeout: float = 300.0,
        cache_dir: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"speech_pairs: batch_size must be at least 1, found {batch_size}")
        if limit is not None and limit < 1:
            raise ConfigError(f"speech_pairs: limit must be at least 1, found {limit}")
        if not 0.0 <= mix <= 1.0:
            raise ConfigError(f"speech_pairs: mix is a probability, found {mix:g}")
        if not token_seconds > 0.0:
            raise ConfigError(
                f"speech_pairs: token_seconds must be positive, found {token_seconds:g}"
            )
        if batch_size % rows_per_speaker:
            raise ConfigError(
                f"speech_pairs: batch_size={batch_size} does not hold whole runs of "
                f"rows_per_speaker={rows_per_speaker}"
            )
        self.train = train
        self.validation = dict(validation)
        self.test = dict(test)
        self.speakers = speakers
        self.batch_size = batch_size
        self.limit = limit
        self.emotion: Emotion = emotion
        self.mix = mix
        self.without_mel: Rest = without_mel
        self.vectors = vectors
        self.num_bins = num_bins
        self.max_mel_frames = max_mel_frames
        self.max_codes = max_codes
        self.max_text = max_text
        self.token_seconds = token_seconds
        self.order = OrderOptions(block=block, bucket=bucket, rows_per_speaker=rows_per_speaker)
        self.loading = LoaderOptions(workers=workers, timeout=timeout)
        self.cache_dir = cache_dir
        self._form: PairForm | None = None
        self._context: RunContext | None = None
        self._mapping: dict[str, int] = {}
        self._notes: list[str] = []
        self._corpora: dict[str, PairCorpus] = {}

    def expect(self, form: PairForm) -> None:
        """Hold rows to what a task reads; without it their shapes need only agree."""
        self._form = form

    def setup(self, context: RunContext) -> None:
        """Open all manifests and the mapping; in evaluation, a manifest when it is asked for.

        Raises:
            DataError: a manifest or the mapping is missing or damaged, no row has mel, the mapping
                knows no speaker of the manifest, or the first row cannot be used, which includes
                arrays of other shapes than the task reads.
            ConfigError: two splits share a name.
        """
        self._context = context
        shared = sorted(self.validation.keys() & self.test.keys() | self._uris.keys() & {TRAIN})
        if shared:
            raise ConfigError(f"splits need names of their own; used twice: {', '.join(shared)}")
        # One rank builds what all ranks then find on disk.
        with main_rank_first(context):
            source = located(self.speakers, self._cache) if self.speakers is not None else None
            self._mapping, self._notes = run_mapping(source, context)
            if context.training:
                for split in (TRAIN, *self._uris):
                    self._corpus(split)

    @property
    def num_speakers(self) -> int:
        """Classes of the speaker mapping, after :meth:`setup`; 0 without one."""
        return len(self._mapping)

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""
        return self._corpus(TRAIN).train_stream(self.order, self._loading, limit=self.limit)

    def eval_batches(self, split: str) -> Iterable[SpeechPairBatch]:
        """Return this rank's share of a split, longest rows first; the same every time."""
        if split not in self._uris:
            raise ConfigError(f"no split '{split}'; " + suggest(split, self._uris, noun="splits"))
        return self._corpus(split).eval_batches(self._loading)

    def open_split(self, uri: str) -> Iterable[SpeechPairBatch]:
        """Return a manifest by path, or a split by its name, as validation would see it."""
        return self._named(uri).eval_batches(self._loading)

    def sample_utterances(self, uri: str, *, limit: int, seed: int) -> UtteranceSample:
        """Return utterances that have mel, each once, as evenly over speakers as can be."""
        return self._named(uri).sample(limit, seed, self._loading)

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of each opened manifest by split."""
        return {split: corpus.fingerprint for split, corpus in self._corpora.items()}

    def summary(self) -> list[str]:
        """Return rows, how many of them can be used, what the mapping covers, and padding."""
        lines = [line for corpus in self._corpora.values() for line in corpus.summary()]
        if TRAIN in self._corpora:
            lines += self._corpora[TRAIN].train_summary(self.order, self.loading, limit=self.limit)
        return lines + self._notes

    @property
    def _uris(self) -> dict[str, str]:
        return self.validation | self.test

    @property
    def _loading(self) -> LoaderOptions:
        return LoaderOptions(
            workers=self.loading.workers,
            timeout=self.loading.timeout,
            pin_memory=torch.cuda.is_available(),
        )

    def _named(self, uri: str) -> PairCorpus:
        """Return a split by its name, or else a manifest."""
        known = uri == TRAIN or uri in self._uris
        return self._corpus(uri) if known else self._open(uri, uri)

    def _corpus(self, split: str) -> PairCorpus:
        if split not in self._corpora:
            path = self.train if split == TRAIN else self._uris[split]
            self._corpora[split] = self._open(split, path)
        return self._corpora[split]

    def _open(self, name: str, path: str) -> PairCorpus:
        if self._context is None:
            raise RuntimeError("a data module is used before setup()")
        return PairCorpus(
            name=name,
            path=located(path, self._cache),
            options=self._options(self._context.seed),
            batch_size=self.batch_size,
            mapping=self._mapping,
            mapping_name=self.speakers or "the run's mapping",
            context=self._context,
            cache_dir=self._cache,
            strangers=name != TRAIN and name not in self.validation,
        )

    @property
    def _cache(self) -> Path:
        return Path(self.cache_dir).expanduser() if self.cache_dir else default_cache()

    def _options(self, seed: int) -> PairOptions:
        form = self._form
        return PairOptions(
            emotion=self.emotion,
            mix=self.mix,
            num_bins=self.num_bins,
            max_mel_frames=self.max_mel_frames,
            max_codes=self.max_codes,
            max_text=self.max_text,
            text_ids=form.text if form is not None else None,
            code_ids=form.codes if form is not None else None,
            token_seconds=self.token_seconds,
            condition_shape=form.latents if form is not None else None,
            vector_size=form.latents[1] if form is not None else None,
            vectors=self.vectors,
            fallback=self.without_mel == "stored",
            seed=seed,
        )
