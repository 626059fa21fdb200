"""UTF-8 bytes as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from components.tokenizers.storage import read, refuse_id, write
from components.tokenizers.vocabulary import BLANK, SPACE
from core.registry import register
from core.text import normalise, normalised_texts

_VOCAB_SIZE = 257


@register("tokenizer", "byte")
class ByteTokenizer:
    """One token a byte of the text's UTF-8 form: 257 ids with the blank, for every language.

    Nothing is learnt and every text can be encoded. Ids that are not valid UTF-8 decode to the
    replacement character U+FFFD.

    Args:
        lowercase: map text to lower case first.
    """

    def __init__(self, *, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    @property
    def fitted(self) -> bool:
        """True: the vocabulary is fixed."""
        return True

    @property
    def vocab_size(self) -> int:
        """256 bytes and the blank."""
        return _VOCAB_SIZE

    def fit(self, texts: Iterable[str]) -> None:
        """Check that there is text to train on.

        Raises:
            DataError: if there is none.
        """
        for _ in normalised_texts(texts):
            return

    def encode(self, text: str) -> list[int]:
        """Map text to ids: each byte and one."""
        return [byte + 1 for byte in normalise(text, lowercase=self.lowercase).encode()]

    def decode(self, ids: Sequence[int]) -> str:
        """Map ids to text; blanks are left out, broken sequences become U+FFFD."""
        for index in ids:
            if not 0 <= index < _VOCAB_SIZE:
                raise refuse_id(index, _VOCAB_SIZE)
        return bytes(index - 1 for index in ids if index != 0).decode(errors="replace")

    def token(self, index: int) -> str:
        """Return the printable form of one id: an ASCII character, ``▁`` or ``<0xE1>``."""
        if not 0 <= index < _VOCAB_SIZE:
            raise refuse_id(index, _VOCAB_SIZE)
        if index == 0:
            return BLANK
        byte = index - 1
        if byte == ord(" "):
            return SPACE
        return chr(byte) if 0x21 <= byte <= 0x7E else f"<0x{byte:02X}>"

    def save(self, directory: Path) -> None:
        """Write ``tokenizer.json``, which says that the tokens are bytes."""
        write(directory, "byte", {"lowercase": self.lowercase})

    def load(self, directory: Path) -> None:
        """Check that :meth:`save` of the same type and setting wrote the folder.

        Raises:
            CheckpointError: if it did not.
        """
        read(directory, "byte", lowercase=self.lowercase)
