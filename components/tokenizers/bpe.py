"""Byte-pair encoding as tokens."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from components.tokenizers.storage import read, refuse_id, refuse_unfitted, write
from components.tokenizers.vocabulary import BLANK
from core.errors import CheckpointError, ConfigError, DataError
from core.registry import register
from core.text import describe_character, normalise, normalised_texts

_MODEL = "tokenizer.model"
_TOO_LARGE = re.compile(r"set it to a value <= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_LONGEST_SENTENCE = 1 << 20


@register("tokenizer", "bpe")
class BPETokenizer:
    """Subwords by byte-pair encoding (Sennrich et al., 2016), trained by SentencePiece.

    The model is trained from the training transcripts, in one thread, so that the same texts give
    the same model. Texts are normalised to NFC before; SentencePiece changes nothing more. The
    place of its unknown token, id 0, is the blank's: what would be unknown is refused.

    Args:
        vocab_size: number of ids, blank included.
        character_coverage: share of the characters that get a token; the rarest others are
            refused by :meth:`encode`, or spelt in bytes.
        byte_fallback: spell unknown characters in bytes, which takes 256 of the ids.
        shrink: take the largest possible vocabulary where the text is too small for
            ``vocab_size``, instead of refusing.
        lowercase: map text to lower case first.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 512,
        character_coverage: float = 1.0,
        byte_fallback: bool = False,
        shrink: bool = False,
        lowercase: bool = False,
    ) -> None:
        if vocab_size < 2:
            raise ConfigError(f"bpe: vocab_size is {vocab_size}, expected 2 or more")
        if not 0.0 < character_coverage <= 1.0:
            raise ConfigError(
                f"bpe: character_coverage is {character_coverage}, expected above 0 and at most 1"
            )
        self.lowercase = lowercase
        self._wanted = vocab_size
        self._coverage = character_coverage
        self._byte_fallback = byte_fallback
        self._shrink = shrink
        self._model = b""
        self._processor: sentencepiece.SentencePieceProcessor | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a model."""
        return self._processor is not None

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank included; below the configured one if it had to shrink.

        Raises:
            DataError: if the tokenizer is not fitted.
        """
        return int(self._fitted().get_piece_size())

    def fit(self, texts: Iterable[str]) -> None:
        """Train the model.

        Raises:
            DataError: if there is no text, or if it is too small or too varied for the
                vocabulary size; with the size that is possible.
        """
        lines = list(normalised_texts(texts, lowercase=self.lowercase))
        try:
            model = self._train(lines, self._wanted)
        except RuntimeError as error:
            model = self._retrain(lines, error)
        self._use(model)

    def encode(self, text: str) -> list[int]:
        """Map text to ids.

        Raises:
            DataError: naming a character that has no token.
        """
        processor, normal = self._fitted(), normalise(text, lowercase=self.lowercase)
        ids = [int(index) for index in processor.encode(normal)]
        if 0 in ids or processor.decode(ids) != normal:
            raise self._unknown(text, normal)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Map ids to text; blanks are left out."""
        processor, size = self._fitted(), self.vocab_size
        for index in ids:
            if not 0 <= index < size:
                raise refuse_id(index, size)
        return str(processor.decode([index for index in ids if index != 0]))

    def token(self, index: int) -> str:
        """Return the printable form of one id, with ``▁`` where a word begins."""
        if not 0 <= index < self.vocab_size:
            raise refuse_id(index, self.vocab_size)
        return BLANK if index == 0 else str(self._fitted().id_to_piece(index))

    def save(self, directory: Path) -> None:
        """Write ``tokenizer.model`` and ``tokenizer.json``."""
        self._fitted()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _MODEL).write_bytes(self._model)
        digest = hashlib.sha256(self._model).hexdigest()
        write(directory, "bpe", {"lowercase": self.lowercase, "sha256": digest})

    def load(self, directory: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: if it is missing, damaged, or of another type or setting.
        """
        record = read(directory, "bpe", lowercase=self.lowercase)
        path = directory / _MODEL
        try:
            model = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"the tokenizer's model cannot be read: {error}") from error
        if hashlib.sha256(model).hexdigest() != record.get("sha256"):
            raise CheckpointError(f"{path} is damaged: its checksum is not the recorded one")
        self._use(model)

    def _train(self, lines: Sequence[str], vocab_size: int) -> bytes:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=self._coverage,
            byte_fallback=self._byte_fallback,
            normalization_rule_name="identity",
            max_sentence_length=_LONGEST_SENTENCE,
            shuffle_input_sentence=False,
            num_threads=1,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
        return model.getvalue()

    def _retrain(self, lines: Sequence[str], error: RuntimeError) -> bytes:
        """Shrink if that was asked for and helps, else refuse with a size that is possible."""
        asked = f"bpe: vocab_size={self._wanted}"
        if found := _TOO_LARGE.search(str(error)):
            largest = int(found[1])
            if self._shrink:
                return self._train(lines, largest)
            raise DataError(
                f"{asked} is more than these {len(lines):,} transcripts can give; "
                f"set vocab_size={largest} or less, or shrink=True"
            ) from error
        if found := _TOO_SMALL.search(str(error)):
            raise DataError(
                f"{asked} is less than one token for each character and the blank; "
                f"set vocab_size={found[1]} or more, or lower character_coverage"
            ) from error
        raise DataError(f"{asked}: SentencePiece cannot train a model: {error}") from error

    def _use(self, model: bytes) -> None:
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise CheckpointError(f"{_MODEL} is not a SentencePiece model: {error}") from error
        self._model, self._processor = model, processor

    def _fitted(self) -> sentencepiece.SentencePieceProcessor:
        if self._processor is None:
            raise refuse_unfitted("bpe")
        return self._processor

    def _unknown(self, text: str, normal: str) -> DataError:
        processor = self._fitted()
        hint = "" if self._byte_fallback else "; train with it, or set byte_fallback=True"
        for position, character in enumerate(normal):
            ids = processor.encode(character)
            if 0 in ids or (character != " " and processor.decode(ids) != character):
                return DataError(
                    f"symbol {describe_character(character)} at position {position} of '{text}' "
                    f"has no token{hint}"
                )
        return DataError(f"'{text}' does not survive SentencePiece unchanged")
