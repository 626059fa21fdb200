"""Base of tokenizers whose tokens are single characters of some decomposition of the text."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from components.tokenizers.storage import read, refuse_id, refuse_unfitted, write
from core.errors import CheckpointError, DataError
from core.text import describe_character, normalise, normalised_texts

BLANK = "<blank>"
SPACE = "▁"


class VocabularyTokenizer(ABC):
    """One id for each symbol seen in training, sorted by code point, after the blank.

    Args:
        lowercase: map text to lower case first.
    """

    kind: ClassVar[str]

    def __init__(self, *, lowercase: bool = False) -> None:
        self.lowercase = lowercase
        self._symbols: tuple[str, ...] = ()
        self._ids: dict[str, int] = {}

    @abstractmethod
    def _split(self, text: str) -> str:
        """Return the symbols of a text in form NFC; form NFC of the result is the text again."""

    @property
    def fitted(self) -> bool:
        """Whether the vocabulary is known."""
        return bool(self._symbols)

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank included.

        Raises:
            DataError: if the tokenizer is not fitted.
        """
        self._require_fitted()
        return len(self._symbols) + 1

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the symbols that occur in ``texts``.

        Raises:
            DataError: if there is no text.
        """
        seen: set[str] = set()
        for text in normalised_texts(texts, lowercase=self.lowercase):
            seen.update(self._split(text))
        self._use(sorted(seen))

    def encode(self, text: str) -> list[int]:
        """Map text to ids.

        Raises:
            DataError: naming the first symbol that training had not, and its position.
        """
        self._require_fitted()
        symbols = self._split(normalise(text, lowercase=self.lowercase))
        try:
            return [self._ids[symbol] for symbol in symbols]
        except KeyError:
            raise self._unknown(text, symbols) from None

    def decode(self, ids: Sequence[int]) -> str:
        """Map ids to text in form NFC; blanks are left out."""
        joined = "".join(self._symbol(index) for index in ids if index != 0)
        return unicodedata.normalize("NFC", joined)

    def token(self, index: int) -> str:
        """Return the printable form of one id: ``<blank>``, ``▁`` for the space, or the symbol."""
        self._require_fitted()
        if index == 0:
            return BLANK
        symbol = self._symbol(index)
        return SPACE if symbol == " " else symbol

    def save(self, directory: Path) -> None:
        """Write the symbols to ``tokenizer.json``."""
        self._require_fitted()
        content = {"lowercase": self.lowercase, "symbols": list(self._symbols)}
        write(directory, self.kind, content)

    def load(self, directory: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: if it is missing, damaged, or of another type or setting.
        """
        symbols = read(directory, self.kind, lowercase=self.lowercase).get("symbols")
        if (
            not isinstance(symbols, list)
            or not symbols
            or len(set(map(str, symbols))) != len(symbols)
            or not all(isinstance(symbol, str) and len(symbol) == 1 for symbol in symbols)
        ):
            raise CheckpointError(f"{directory}: 'symbols' is not a list of distinct characters")
        self._use(symbols)

    def _use(self, symbols: Sequence[str]) -> None:
        self._symbols = tuple(symbols)
        self._ids = {symbol: index for index, symbol in enumerate(symbols, 1)}

    def _symbol(self, index: int) -> str:
        self._require_fitted()
        if not 0 < index <= len(self._symbols):
            raise refuse_id(index, self.vocab_size)
        return self._symbols[index - 1]

    def _require_fitted(self) -> None:
        if not self._symbols:
            raise refuse_unfitted(self.kind)

    def _unknown(self, text: str, symbols: str) -> DataError:
        position, symbol = next(
            (position, symbol) for position, symbol in enumerate(symbols) if symbol not in self._ids
        )
        hint = ""
        if not self.lowercase and symbol.lower() in self._ids:
            hint = f"; it knows {symbol.lower()!r}: set lowercase=True?"
        return DataError(
            f"symbol {describe_character(symbol)} at position {position} of '{text}' is not in "
            f"the vocabulary of {len(self._symbols)} symbols{hint}"
        )
