"""Audio that no mel could be made of, remembered over runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson

from components.preparation.mel_folder import FAILED
from components.preparation.mel_work import Outcome
from core.checkpoint.atomic import write_text
from core.errors import DataError


class Failures:
    """The failed list of a folder of mels: one JSON object a line.

    A failure is appended at once, so that a run that is killed has not lost it.

    Args:
        folder: of the mels.
        retry: forget what failed before as soon as it succeeds.
    """

    def __init__(self, folder: Path, *, retry: bool) -> None:
        self._path = folder / FAILED
        self._retry = retry
        self._known = self._read()
        self._now: dict[str, dict[str, str]] = {}
        self._mended = False
        self._file = self._path.open("ab")

    def __contains__(self, identity: str) -> bool:
        """Whether audio failed before and is not to be tried again."""
        return identity in self._known and not self._retry

    def note(self, outcome: Outcome) -> None:
        """Remember what came of an utterance."""
        if outcome.fault is None:
            self._mended |= self._known.pop(outcome.id, None) is not None
            return
        reason, detail = outcome.fault
        entry = {"id": outcome.id, "audio": outcome.audio, "reason": reason, "detail": detail}
        self._now[outcome.id] = entry
        if self._known.get(outcome.id) != entry:
            self._file.write(orjson.dumps(entry) + b"\n")
            self._file.flush()

    def reasons(self) -> dict[str, int]:
        """Return how often each reason occurred in this run, the most frequent first."""
        return dict(Counter(entry["reason"] for entry in self._now.values()).most_common())

    def close(self) -> None:
        """Close the list; take out of it what has succeeded since."""
        self._file.close()
        if self._mended:
            entries = (self._known | self._now).values()
            write_text(self._path, "".join(orjson.dumps(e).decode() + "\n" for e in entries))
        elif not self._path.stat().st_size:
            self._path.unlink()

    def _read(self) -> dict[str, dict[str, str]]:
        """Read the list; a last line that was cut off is removed, its audio is tried again."""
        if not self._path.exists():
            return {}
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
