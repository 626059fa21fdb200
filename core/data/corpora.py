"""Opens a source as the kind of split that it can be."""

from __future__ import annotations

from pathlib import Path

from core.contracts import RunContext
from core.data.corpus import Corpus, CorpusOptions
from core.data.planned import PlannedCorpus
from core.data.source import StreamSource
from core.data.streamed import StreamedCorpus
from core.data.uri import open_source


def open_corpus(
    *, name: str, uri: str, options: CorpusOptions, context: RunContext, cache_dir: Path | None
) -> Corpus:
    """Open the source of a split. Raises ConfigError and DataError as :func:`open_source` does."""
    source = open_source(uri, cache_dir=cache_dir)
    if isinstance(source, StreamSource):
        return StreamedCorpus(name=name, uri=uri, source=source, options=options, context=context)
    return PlannedCorpus(name=name, uri=uri, source=source, options=options, context=context)
