"""Audio that no mel could be made of, remembered over runs."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import orjson

from components.preparation.mel_folder import FAILED
from components.preparation.mel_work import Outcome
from core.checkpoint.atomic import naming, write_text
from core.errors import DataError


class Failures:
    """The failed list of a folder of mels: one JSON object a line.

    A failure is appended at once, so that a run that is killed has not lost it. Several processes
    may keep one list, such as those that make the mels of two manifests in one folder.

    Args:
        folder: of the mels.
        retry: forget what failed before as soon as it succeeds.
    """

    def __init__(self, folder: Path, *, retry: bool) -> None:
        self._path = folder / FAILED
        self._retry = retry
        self._known: dict[str, dict[str, str]] = {}
        self._now: dict[str, dict[str, str]] = {}
        self._mended: set[str] = set()
        if self._path.exists():
            with self._alone():
                self._known = self._read()

    def __contains__(self, identity: str) -> bool:
        """Whether audio failed before and is not to be tried again."""
        return identity in self._known and not self._retry

    def note(self, outcome: Outcome) -> None:
        """Remember what came of an utterance."""
        if outcome.fault is None:
            if self._known.pop(outcome.id, None) is not None:
                self._mended.add(outcome.id)
            return
        reason, detail = outcome.fault
        entry = {"id": outcome.id, "audio": outcome.audio, "reason": reason, "detail": detail}
        self._now[outcome.id] = entry
        if self._known.get(outcome.id) != entry:
            with self._alone() as file:
                file.write(orjson.dumps(entry) + b"\n")

    def reasons(self) -> dict[str, int]:
        """Return how often each reason occurred in this run, the most frequent first."""
        return dict(Counter(entry["reason"] for entry in self._now.values()).most_common())

    def close(self) -> None:
        """Take out of the list what has succeeded since."""
        if not self._mended:
            return
        with self._alone():
            entries = [entry for id, entry in self._read().items() if id not in self._mended]
            if entries:
                write_text(self._path, "".join(orjson.dumps(e).decode() + "\n" for e in entries))
            else:
                self._path.unlink()

    @contextmanager
    def _alone(self) -> Iterator[BinaryIO]:
        """Open the list at its end, made if need be, for this process alone.

        The lock is that of the file, which the process that had it may have replaced or removed:
        then it is that of a file without a name, and the list is opened anew.
        """
        with naming(self._path):
            while True:
                with self._path.open("ab") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    try:
                        current = os.path.samestat(os.fstat(file.fileno()), self._path.stat())
                    except FileNotFoundError:
                        current = False
                    if current:
                        yield file
                        return

    def _read(self) -> dict[str, dict[str, str]]:
        """Read the list; a last line that was cut off is removed, its audio is tried again."""
        data = self._path.read_bytes()
        if data and not data.endswith(b"\n"):
            data = data[: data.rfind(b"\n") + 1]
            write_text(self._path, data.decode())
        found = {}
        for number, line in enumerate(data.splitlines(), 1):
            try:
                entry = orjson.loads(line)
                found[entry["id"]] = entry
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise DataError(f"{self._path}:{number}: expected an object with id") from error
        return found
