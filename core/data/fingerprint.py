"""What derived data was made with, so that a reader that expects something else can refuse it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core.errors import DataError


class FingerprintError(DataError):
    """Derived data was made with other settings than its reader expects.

    Args:
        place: of the data.
        differences: one for each field, complete in itself.
    """

    def __init__(self, place: Path, differences: list[str]) -> None:
        self.differences = tuple(differences)
        super().__init__(
            f"{place} was made with other settings than are expected here:\n  "
            + "\n  ".join(differences)
            + "\nmake it again in another folder, or use the settings it was made with"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Settings by name, and one digest of them all.

    Args:
        fields: what orjson can write: strings, numbers, booleans, None, lists, string-keyed dicts.
    """

    fields: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the fields, whatever their order."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Return the fields as JSON with sorted keys, indented."""
        return orjson.dumps(dict(self.fields), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    @classmethod
    def read(cls, path: Path) -> Fingerprint:
        """Read what :meth:`to_json` gave. Raises DataError."""
        try:
            fields = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        if not isinstance(fields, dict):
            raise DataError(f"{path}: a JSON {type(fields).__name__}; expected an object")
        return cls(fields=fields)

    def require(self, expected: Fingerprint, *, place: Path) -> None:
        """Raise FingerprintError naming each field in which this is not what was expected."""
        differences = _differences(self.fields, expected.fields, prefix="")
        if differences:
            raise FingerprintError(place, differences)


def _differences(
    found: Mapping[str, Any], expected: Mapping[str, Any], *, prefix: str
) -> list[str]:
    lines = []
    for name in sorted(found.keys() | expected.keys()):
        label = f"{prefix}{name}"
        if name not in expected:
            lines.append(f"{label}: {found[name]!r} there, nothing expected")
        elif name not in found:
            lines.append(f"{label}: nothing there, {expected[name]!r} expected")
        elif isinstance(found[name], Mapping) and isinstance(expected[name], Mapping):
            lines += _differences(found[name], expected[name], prefix=f"{label}.")
        elif found[name] != expected[name]:
            lines.append(f"{label}: {found[name]!r} there, {expected[name]!r} expected")
    return lines
