"""Opens the corpus of a URI."""

from __future__ import annotations

from pathlib import Path

from core.contracts import RunContext
from core.data.corpus import Corpus, CorpusOptions, PlannedCorpus
from core.data.source import is_stream
from core.data.uri import open_source


def open_corpus(
    *, name: str, uri: str, options: CorpusOptions, context: RunContext, cache_dir: Path | None
) -> Corpus:
    """Open a source as a split. Raises ConfigError and DataError as :func:`open_source` does."""
    source = open_source(uri, cache_dir=cache_dir)
    if is_stream(source):
        raise NotImplementedError
    return PlannedCorpus(name=name, uri=uri, source=source, options=options, context=context)
