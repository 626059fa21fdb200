"""What a run says to people: on the console and, with times, in ``log.txt``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.dist.ranks import Ranks
from core.rundir import RunDir


class _ToConsole(logging.Handler):
    """Passes warnings of all loggers on to the console; the run directory has its own handler."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(level=logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def announcements(
    run: RunDir, ranks: Ranks, write: Callable[[str], None]
) -> Iterator[Callable[[str], None]]:
    """Give a printer that also writes ``log.txt``; silent on every rank but the main one."""
    if not ranks.is_main:
        yield lambda text: None
        return

    def say(text: str) -> None:
        write(text)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with run.log.open("a", encoding="utf-8") as log:
            log.writelines(f"{stamp} {line}\n" for line in text.splitlines())

    handler = _ToConsole(write)
    logging.getLogger().addHandler(handler)
    try:
        yield say
    finally:
        logging.getLogger().removeHandler(handler)
