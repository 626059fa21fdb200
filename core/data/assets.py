"""Tokenizers that a run fits once and keeps, on all ranks alike."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from core.contracts import RunContext, Tokenizer
from core.errors import DataError

TOKENIZER = "tokenizer"
"""Folder of the tokenizer among the assets of a run."""


@contextmanager
def main_rank_first(context: RunContext) -> Iterator[None]:
    """Run a block on rank 0, then on all other ranks; if rank 0 fails, none of them runs it.

    Raises:
        DataError: on the other ranks, with the message of rank 0's failure.
    """
    if context.world_size == 1 or not dist.is_initialized():
        yield
        return
    if context.rank > 0:
        failure: list[str | None] = [None]
        dist.broadcast_object_list(failure, src=0)
        if failure[0] is not None:
            raise DataError(f"rank 0 failed: {failure[0]}")
        yield
        return
    failed = "interrupted"
    try:
        yield
        failed = ""
    except Exception as error:
        failed = str(error)
        raise
    finally:
        # Ranks that wait must hear of a failure at once, not at the collective's timeout.
        dist.broadcast_object_list([failed or None], src=0)


def prepare_tokenizer(
    tokenizer: Tokenizer,
    *,
    context: RunContext,
    texts: Callable[[], Iterable[str]] | None,
    name: str,
) -> None:
    """Load the run's tokenizer, or fit it and keep it among the assets.

    Args:
        tokenizer: made ready in place.
        context: says where assets are and which rank this is.
        texts: gives the training transcripts; None where nothing may be fitted.
        name: of their source, for messages.

    Raises:
        DataError: if there is nothing to load and nothing may be fitted, or no transcript.
    """
    folder = context.assets / TOKENIZER
    with main_rank_first(context):
        if folder.is_dir():
            tokenizer.load(folder)
            return
        if texts is None:
            raise DataError(
                f"no tokenizer in {context.assets}; expected the folder '{TOKENIZER}' that "
                "training wrote"
            )
        if not tokenizer.fitted:
            tokenizer.fit(_normalised(texts(), name))
        if context.rank == 0:
            _save(tokenizer, folder)


def _normalised(texts: Iterable[str], name: str) -> Iterator[str]:
    empty = True
    for text in texts:
        empty = False
        yield unicodedata.normalize("NFC", text)
    if empty:
        raise DataError(f"{name}: no utterance has a transcript, and the tokenizer needs some")


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer whole or not at all."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer.save(partial)
    partial.replace(folder)
