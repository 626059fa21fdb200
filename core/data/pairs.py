"""Rows of a pair manifest as batches; what cannot be used is named, never raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from core.contracts import UNMAPPED, Padded, Skipped, SpeechPairBatch, TokenIds
from core.data.lines import Row
from core.data.npy import Array, ArrayError, Indices, read_array
from core.data.pairs_index import PROMPT_MEL, TARGET_MEL, PairIndex

Side: TypeAlias = Literal["target", "prompt"]
Emotion: TypeAlias = Literal["target", "prompt", "mix"]

CROPPED = "cropped mels"
STORED = "stored emotion vectors"
MEL_BITS: dict[Emotion, int] = {
    "target": TARGET_MEL,
    "prompt": PROMPT_MEL,
    "mix": TARGET_MEL | PROMPT_MEL,
}
"""The mels that a row must have to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """What a row becomes.

    Args:
        emotion: the utterance that gives mel and emotion vector; ``mix`` draws it for each row.
        mix: probability of the prompt with ``mix``.
        num_bins: of a mel frame.
        max_mel_frames: longer mels lose their end.
        max_codes: a row with more semantic tokens is left out: a target without its end would teach
            a model to stop anywhere.
        max_text: a row with more text tokens is left out.
        text_ids: what may stand in a text; None for all but negative ids.
        code_ids: what may stand among semantic tokens; likewise.
        token_seconds: seconds that one semantic token stands for.
        condition_shape: (L, D) of all speaker latents; None to take any.
        vector_size: D of all stored emotion vectors; None to take any.
        vectors: read the stored emotion vector of every row; else only where there is no mel.
        fallback: use a row without mel, by its stored emotion vector and without speaker.
        seed: of the draws of ``mix``, together with epoch and row.
    """

    emotion: Emotion
    mix: float
    num_bins: int
    max_mel_frames: int
    max_codes: int
    max_text: int
    text_ids: TokenIds | None
    code_ids: TokenIds | None
    token_seconds: float
    condition_shape: tuple[int, int] | None
    vector_size: int | None
    vectors: bool
    fallback: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A row with its arrays, and the utterance that gave it mel or vector."""

    id: str
    name: str
    side: Side
    utterance: str
    label: str
    audio: str
    text: Tensor
    codes: Tensor
    condition: Tensor
    mel: Tensor | None
    vector: Tensor | None
    speaker: int


class PairLoader:
    """Makes batches of an epoch and row numbers; runs in loader workers.

    Args:
        index: of the manifest.
        speakers: (n,) class of each speaker of the index, ``UNMAPPED`` where it has none.
        options: what a row becomes.
    """

    def __init__(self, *, index: PairIndex, speakers: Indices, options: PairOptions) -> None:
        self._index = index
        self._speakers = speakers
        self.options = options
        self._folder = index.path.parent

    def __call__(self, request: tuple[int, Indices]) -> SpeechPairBatch:
        """Load and pad; a row that fails becomes an entry of ``skipped``."""
        epoch, rows = request
        events: Counter[str] = Counter()
        used: list[Pair] = []
        skipped: list[Skipped] = []
        for number in rows.tolist():
            row = self._index.row(number)
            try:
                used.append(self.pair(row, number, epoch, events))
            except ArrayError as error:
                skipped.append(Skipped(id=row["id"], reason=error.reason, detail=error.detail))
        mels = [pair.mel for pair in used]
        vectors = [pair.vector for pair in used]
        return SpeechPairBatch(
            ids=tuple(pair.id for pair in used),
            text=_padded([pair.text for pair in used], torch.int64),
            codes=_padded([pair.codes for pair in used], torch.int64),
            condition=self._conditions(used),
            mel=_padded_mels(mels, self.options.num_bins),
            emotion=_vectors(vectors),
            speakers=torch.tensor([pair.speaker for pair in used], dtype=torch.int64),
            speaker_names=tuple(pair.name for pair in used),
            sides=tuple(pair.side for pair in used),
            utterances=tuple(pair.utterance for pair in used),
            emotions=tuple(pair.label for pair in used),
            audio=tuple(pair.audio for pair in used),
            token_seconds=self.options.token_seconds,
            skipped=tuple(skipped),
            events=dict(events),
        )

    def pair(self, row: Row, number: int, epoch: int, events: Counter[str]) -> Pair:
        """Read the arrays of a row. Raises ArrayError saying why it cannot be used."""
        options = self.options
        side = self.side(number, epoch)
        bits = MEL_BITS[options.emotion]
        has_mel = int(self._index.mels[number]) & bits == bits
        if not has_mel and not options.fallback:
            raise ArrayError(reason="no mel", detail=f"the row has no {side}_mel_path")
        mel = self._mel(row, side, events) if has_mel else None
        if not has_mel:
            events[STORED] += 1
        speaker = int(self._speakers[self._index.speakers[number]]) if has_mel else UNMAPPED
        audio, label = row.get(f"{side}_audio_path"), row.get(f"{side}_emotion")
        return Pair(
            id=row["id"],
            name=row["speaker"],
            side=side,
            utterance=row[f"{side}_id"],
            label="" if label is None else str(label),
            audio=str(self._folder / audio) if isinstance(audio, str) and audio else "",
            text=self._text(row),
            codes=self._codes(row),
            condition=self._condition(row),
            mel=mel,
            vector=self._vector(row, side) if options.vectors or not has_mel else None,
            speaker=speaker,
        )

    def side(self, number: int, epoch: int) -> Side:
        """Return whose emotion a row gets: a function of seed, epoch and row alone."""
        emotion = self.options.emotion
        if emotion != "mix":
            return emotion
        drawn = np.random.default_rng([self.options.seed, epoch, number]).random()
        return "prompt" if drawn < self.options.mix else "target"

    def _text(self, row: Row) -> Tensor:
        options = self.options
        path = row["target_text_ids_path"]
        return self._tokens(row, "text", path, most=options.max_text, ids=options.text_ids)

    def _codes(self, row: Row) -> Tensor:
        options = self.options
        path = row["target_codes_path"]
        return self._tokens(row, "code", path, most=options.max_codes, ids=options.code_ids)

    def _tokens(self, row: Row, kind: str, path: str, *, most: int, ids: TokenIds | None) -> Tensor:
        """Return (n,) int64 ids; arrays may be padded beyond the length that the row declares."""
        count = int(row[f"target_{kind}_len"])
        if count > most:
            raise ArrayError(
                reason=f"{kind} too long", detail=f"{count} tokens; at most {most} are allowed"
            )
        values = read_array(self._folder / path, what=kind)
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise _wrong(kind, "(n,) integers", values, path)
        if values.size < count:
            raise ArrayError(
                reason=f"{kind} too short",
                detail=f"{path}: {values.size} tokens; the manifest declares {count}",
            )
        values = values[:count].astype(np.int64)
        fault = _id_fault(values, ids)
        if fault is not None:
            raise ArrayError(reason=f"{kind} ids", detail=f"{path}: {fault}")
        return torch.from_numpy(values)

    def _condition(self, row: Row) -> Tensor:
        path = row["prompt_condition_path"]
        values = read_array(self._folder / path, what="condition")
        shape = self.options.condition_shape
        if values.ndim != 2 or not values.size or (shape is not None and values.shape != shape):
            raise _wrong("condition", f"{shape or '(L, D)'} floats", values, path)
        return _floats(values, "condition", path)

    def _vector(self, row: Row, side: Side) -> Tensor:
        path = row.get(f"{side}_emo_vec_path")
        if not isinstance(path, str):
            raise ArrayError(
                reason="no emotion vector", detail=f"the row has no {side}_emo_vec_path"
            )
        values = read_array(self._folder / path, what="emotion vector")
        size = self.options.vector_size
        if values.ndim != 1 or not values.size or size not in (None, values.size):
            raise _wrong("emotion vector", f"({size or 'D'},) floats", values, path)
        return _floats(values, "emotion vector", path)

    def _mel(self, row: Row, side: Side, events: Counter[str]) -> Tensor:
        path = row[f"{side}_mel_path"]
        values = read_array(self._folder / path, what="mel")
        bins = self.options.num_bins
        if values.ndim != 2 or values.shape[1] != bins or not values.size:
            raise _wrong("mel", f"(T, {bins}) floats", values, path, bins=bins)
        if len(values) > self.options.max_mel_frames:
            events[CROPPED] += 1
            values = values[: self.options.max_mel_frames]
        return _floats(values, "mel", path)

    def _conditions(self, used: list[Pair]) -> Tensor:
        if used:
            return torch.stack([pair.condition for pair in used])
        return torch.zeros(0, *(self.options.condition_shape or (0, 0)))


def rows_by_length(lengths: Array, rows: int, batch_size: int) -> Iterable[Indices]:
    """Return the batches of an evaluation: a fixed order, the longest rows first."""
    order = np.argsort(lengths[:rows], kind="stable")[::-1]
    return [order[start : start + batch_size] for start in range(0, rows, batch_size)]


def _id_fault(values: Indices, ids: TokenIds | None) -> str | None:
    if values.min() < 0:
        return f"{values.min()} is negative"
    if ids is None:
        return None
    framing = values[np.isin(values, ids.reserved)]
    if framing.size:
        return f"{framing[0]} is start or stop, which the model adds itself"
    if values.max() >= ids.size:
        return f"{values.max()} is not in the model's vocabulary; expected 0 to {ids.size - 1}"
    return None


def _wrong(what: str, expected: str, values: Array, path: str, bins: int = 0) -> ArrayError:
    transposed = bool(bins) and values.ndim == 2 and values.shape[0] == bins
    reason = "empty" if not values.size else "transposed" if transposed else "shape"
    return ArrayError(
        reason=f"{what}: {reason}",
        detail=f"{path}: expected {expected}, found {values.dtype} {values.shape}",
    )


def _floats(values: Array, what: str, path: str) -> Tensor:
    """Return float32 of finite float32 or float16 values."""
    if values.dtype not in (np.float32, np.float16):
        raise ArrayError(
            reason=f"{what}: dtype",
            detail=f"{path}: expected float32 or float16, found {values.dtype}",
        )
    found = values.astype(np.float32)
    if not np.isfinite(found).all():
        bad = int(found.size - np.isfinite(found).sum())
        raise ArrayError(
            reason=f"{what}: non-finite", detail=f"{path}: {bad} of {found.size} values"
        )
    return torch.from_numpy(np.ascontiguousarray(found))


def _padded(rows: list[Tensor], dtype: torch.dtype) -> Padded:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    longest = max((len(row) for row in rows), default=0)
    trailing = rows[0].shape[1:] if rows else ()
    values = torch.zeros(len(rows), longest, *trailing, dtype=dtype)
    for row, target in zip(rows, values, strict=True):
        target[: len(row)] = row
    return Padded(values=values, lengths=lengths)


def _padded_mels(mels: list[Tensor | None], bins: int) -> Padded | None:
    if all(mel is None for mel in mels):
        return None
    none = torch.zeros(0, bins)
    return _padded([none if mel is None else mel for mel in mels], torch.float32)


def _vectors(vectors: list[Tensor | None]) -> Tensor | None:
    given = [vector for vector in vectors if vector is not None]
    if not given:
        return None
    zero = torch.zeros_like(given[0])
    return torch.stack([zero if vector is None else vector for vector in vectors])
