"""Tables of ``key value`` lines, as Kaldi folders and SCP lists have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from core.data.lines import BOM
from core.errors import DataError, suggest

Encoding: TypeAlias = Literal["utf-8", "cp949"]
"""Of a text file: cp949 is what Korean Windows writes, EUC-KR included."""

_SUGGESTED_AMONG = 10_000


def read_table(
    path: Path, *, audio: bool = False, blank: bool = False, encoding: Encoding = "utf-8"
) -> dict[str, str]:
    """Read ``key value`` lines; a missing file is an empty table.

    Args:
        path: of the table.
        audio: values are audio files; commands in their place are refused, never executed.
        blank: values may be empty.
        encoding: of the table; a byte order mark of UTF-8 is allowed.

    Raises:
        DataError: naming file and line.
    """
    table: dict[str, str] = {}
    if not path.is_file():
        return table
    for number, line in table_lines(path, encoding=encoding):
        key, _, value = line.partition(" ")
        value = value.strip()
        if not key or not (value or blank):
            raise DataError(f"{path}:{number}: expected 'key value', found '{line}'")
        if key in table:
            raise DataError(f"{path}:{number}: '{key}' is there twice")
        if audio and (value.endswith("|") or value.startswith("|")):
            raise DataError(
                f"{path}:{number}: '{key}' is the output of a command; loading data never executes "
                "one: write the audio to files and name them here"
            )
        table[key] = value
    return table


def read_trn(path: Path, *, encoding: Encoding = "utf-8") -> tuple[dict[str, str], dict[str, str]]:
    """Read ``audio :: transcript`` lines, as KsponSpeech's lists have them.

    Returns:
        The path of the audio, and the transcript, by the name of the audio without its suffix.

    Raises:
        DataError: naming file and line.
    """
    audio: dict[str, str] = {}
    texts: dict[str, str] = {}
    for number, line in table_lines(path, encoding=encoding):
        place, separator, text = line.partition("::")
        key = Path(place.strip()).stem
        if not separator or not key:
            raise DataError(f"{path}:{number}: expected 'audio :: transcript', found '{line}'")
        if key in audio:
            raise DataError(f"{path}:{number}: '{key}' is there twice")
        audio[key], texts[key] = place.strip(), text.strip()
    return audio, texts


def read_segments(
    path: Path, recordings: dict[str, Path]
) -> dict[str, tuple[str, float, float]] | None:
    """Read recording, start and end (seconds) by utterance; None if there is no such file.

    Raises:
        DataError: naming file and line of a bad segment or an unknown recording.
    """
    if not path.is_file():
        return None
    segments: dict[str, tuple[str, float, float]] = {}
    for number, line in table_lines(path):
        try:
            key, recording, begin, finish = line.split()
            start, end = float(begin), float(finish)
        except ValueError:
            raise DataError(
                f"{path}:{number}: expected 'utterance recording start end', found '{line}'"
            ) from None
        if recording not in recordings:
            near = ""
            if len(recordings) <= _SUGGESTED_AMONG:
                near = "; " + suggest(recording, recordings, noun="recordings")
            raise DataError(f"{path}:{number}: recording '{recording}' is not in wav.scp{near}")
        if not 0 <= start < end < float("inf") or key in segments:
            fault = f"'{key}' is there twice" if key in segments else f"{start} to {end} s is empty"
            raise DataError(f"{path}:{number}: {fault}")
        segments[key] = (recording, start, end)
    return segments


def table_lines(path: Path, *, encoding: Encoding = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield number and text of each line, tabs as spaces and outer white space dropped.

    Raises:
        DataError: naming file and line where the encoding is another one.
    """
    content = path.read_bytes()
    if encoding != "utf-8":
        _refuse_utf8(path, content, encoding)
    for number, line in enumerate(_split(content.removeprefix(BOM)), 1):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            hint = "; is it cp949? Then say so (encoding=cp949)" if _decodes(line, "cp949") else ""
            raise DataError(
                f"{path}:{number}: not {encoding.upper()}: {error.reason}, byte "
                f"0x{line[error.start]:02x} at column {error.start + 1}"
                + (hint if encoding == "utf-8" else "")
            ) from error
        yield number, text.replace("\t", " ").strip()


def _refuse_utf8(path: Path, content: bytes, encoding: str) -> None:
    """Refuse a file that is UTF-8: its Hangul would decode as other characters, silently.

    Bytes of Hangul in UTF-8 are rare Hanja in cp949, so a whole file of them is no coincidence.
    """
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return
    for number, line in enumerate(lines, 1):
        if content.startswith(BOM) or any("가" <= character <= "힣" for character in line):
            raise DataError(
                f"{path}:{number}: the file is UTF-8, not {encoding.upper()}; "
                "set the encoding to utf-8"
            )


def _split(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
