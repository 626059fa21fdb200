"""The sources of a data module by split, opened where they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from core.contracts import RunContext
from core.data.assets import main_rank_first
from core.data.cache import default_cache
from core.data.corpora import open_corpus
from core.data.corpus import Corpus, CorpusOptions
from core.errors import ConfigError, suggest

TRAIN = "train"


class Splits:
    """Corpora of a data module: one of training, several of validation and test.

    Args:
        train: source of training.
        validation: sources of validation by split name.
        test: sources of test by split name.
        options: how the source of training is used; those of evaluation differ in ``training``.
        evaluation: how sources of evaluation are used, where that differs in more.
        cache_dir: where derived files are kept; None for ``sori`` in the user's cache folder.
    """

    def __init__(
        self,
        *,
        train: str,
        validation: Mapping[str, str],
        test: Mapping[str, str],
        options: CorpusOptions,
        cache_dir: str | None,
        evaluation: CorpusOptions | None = None,
    ) -> None:
        self._train = train
        self._validation = dict(validation)
        self._test = dict(test)
        self._options = {True: options, False: evaluation or options}
        self._cache_dir = cache_dir
        self._context: RunContext | None = None
        self._corpora: dict[str, Corpus] = {}

    def setup(self, context: RunContext) -> None:
        """Open every source; with ``context.training`` unset, none before it is asked for.

        Raises:
            DataError: a source is missing or damaged.
            ConfigError: a URI is not valid, or two splits share a name.
        """
        self._context = context
        shared = sorted(self._validation.keys() & self._test.keys() | self.uris.keys() & {TRAIN})
        if shared:
            raise ConfigError(f"splits need names of their own; used twice: {', '.join(shared)}")
        if context.training:
            # One rank builds what all ranks then find in the cache.
            with main_rank_first(context):
                for split in (TRAIN, *self.uris):
                    self._corpus(split)

    @property
    def train(self) -> Corpus:
        """The source of training."""
        return self._corpus(TRAIN)

    def evaluation(self, split: str) -> Corpus:
        """Return a source of validation or test. Raises ConfigError naming the nearest split."""
        if split not in self.uris:
            raise ConfigError(f"no split '{split}'; " + suggest(split, self.uris, noun="splits"))
        return self._corpus(split)

    def open(self, uri: str) -> Corpus:
        """Open a source, or a split by its name, for evaluation."""
        return self._open(uri, self.uris.get(uri, uri), training=False)

    @property
    def opened(self) -> Mapping[str, Corpus]:
        """The corpora that are open, by split."""
        return self._corpora

    @property
    def uris(self) -> dict[str, str]:
        """Sources of evaluation by split name."""
        return self._validation | self._test

    @property
    def context(self) -> RunContext:
        """Of the run, after :meth:`setup`."""
        if self._context is None:
            raise RuntimeError("a data module is used before setup()")
        return self._context

    @property
    def cache(self) -> Path:
        """Folder of derived files."""
        return Path(self._cache_dir).expanduser() if self._cache_dir else default_cache()

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of each opened source by split."""
        return {split: corpus.source.fingerprint for split, corpus in self._corpora.items()}

    def summary(self) -> list[str]:
        """Return what the opened corpora have to say."""
        return [line for corpus in self._corpora.values() for line in corpus.summary()]

    def _corpus(self, split: str) -> Corpus:
        if split not in self._corpora:
            uri = self._train if split == TRAIN else self.uris[split]
            self._corpora[split] = self._open(split, uri, training=split == TRAIN)
        return self._corpora[split]

    def _open(self, name: str, uri: str, *, training: bool) -> Corpus:
        options = self._options[training]
        loading = replace(options.loading, pin_memory=torch.cuda.is_available())
        return open_corpus(
            name=name,
            uri=uri,
            options=replace(options, training=training, loading=loading),
            context=self.context,
            cache_dir=self.cache,
        )
