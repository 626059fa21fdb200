"""Characters as tokens."""

from __future__ import annotations

from components.tokenizers.vocabulary import VocabularyTokenizer
from core.registry import register


@register("tokenizer", "character")
class CharacterTokenizer(VocabularyTokenizer):
    """One token a character (Unicode form NFC), the space included.

    The vocabulary is learnt from the training transcripts. A Korean corpus gives one token for
    each syllable that occurs; ``jamo`` needs far fewer.

    Args:
        lowercase: map text to lower case first.
    """

    kind = "character"

    def __init__(self, *, lowercase: bool = False) -> None:
        super().__init__(lowercase=lowercase)

    def _split(self, text: str) -> str:
        return text
