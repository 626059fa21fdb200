"""State dicts from NeMo's names to ours and back: the same numbers, bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from components.nemo.links import BATCHES, BIASES, Link, Sizes, link_of, ours_of
from core.errors import CheckpointError

_SHARED = tuple(f"encoder.{name.rpartition('.')[2]}" for name in BIASES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A state dict under other names.

    Args:
        state: the tensors, by their new names; views of the old ones where that is possible.
        left_out: old names that have no place on the other side.
        notes: what was passed over because it has no meaning there.
    """

    state: dict[str, Tensor]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def from_nemo(state: Mapping[str, Tensor], *, books: int | None = None) -> Converted:
    """Convert a state dict of NeMo's to our names and layouts.

    Any depth, width, number of bins and codebooks, with biases or without, either norm, either
    subsampling. Counts of batches behind running statistics are passed over: with a fixed momentum
    they decide nothing. Position biases that all layers share go into each layer.

    Args:
        state: tensors by NeMo's names, of a whole model or of its encoder alone (names that begin
            with ``pre_encode.`` and ``layers.``).
        books: codebooks of a head whose quantizer is not in the file; None for one.

    Raises:
        CheckpointError: a tensor has a shape that its name does not allow, or one of several that
            are a single tensor here is missing.
    """
    theirs, notes = _completed(state)
    counters = [name for name in theirs if name.endswith(f".{BATCHES}")]
    if counters:
        notes.append(f"{len(counters)} counts of batches ({BATCHES}) are of no use here")
    separable = any(name.startswith("encoder.pre_encode.conv.3.") for name in theirs)
    names = {n: ours_of(n, separable=separable) for n in theirs if n not in counters}
    sizes = _sizes(theirs, "encoder.pre_encode.conv.0.weight", books)
    found: dict[str, Tensor] = {}
    for ours in dict.fromkeys(name for name in names.values() if name is not None):
        link = link_of(ours)
        assert link is not None  # the two tables are one
        found[ours] = _taken(link, theirs, sizes)
    left_out = tuple(name for name, ours in names.items() if ours is None)
    return Converted(state=found, left_out=left_out, notes=tuple(notes))


def to_nemo(state: Mapping[str, Tensor], *, batches: int = 0) -> Converted:
    """Convert a state dict of ours to NeMo's names and layouts.

    Args:
        state: tensors by the names of a task; with ``features.window`` and ``features.filters``
            the result has what NeMo keeps of them.
        batches: what to write as the count of batches behind running statistics. NeMo's norms have
            a fixed momentum and never read it.

    Raises:
        CheckpointError: a tensor has a shape that its name does not allow.
    """
    sizes = _sizes(state, "encoder.subsample.stages.0.weight")
    found: dict[str, Tensor] = {}
    left_out: list[str] = []
    for name, tensor in state.items():
        link = link_of(name)
        if link is None or (name.startswith("head.") and not _has_books(state)):
            left_out.append(name)
            continue
        found.update(zip(link.theirs, _given(link, tensor, sizes), strict=True))
        if name.endswith(".running_var"):
            counter = link.theirs[0].removesuffix("running_var") + BATCHES
            found[counter] = torch.tensor(batches, dtype=torch.int64)
    return Converted(state=found, left_out=tuple(left_out))


def nemo_names(ours: Iterable[str]) -> list[str]:
    """Return NeMo's names of tensors of ours, for messages."""
    links = [(name, link_of(name)) for name in ours]
    return [theirs for name, link in links for theirs in (link.theirs if link else (name,))]


def _completed(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Give an encoder's names their prefix, and every layer its position biases."""
    bare = any(name.startswith("pre_encode.") for name in state)
    theirs = {f"encoder.{name}" if bare else name: value for name, value in state.items()}
    notes: list[str] = []
    layers = {".".join(n.split(".")[:3]) for n in theirs if n.startswith("encoder.layers.")}
    for shared in _SHARED:
        if shared not in theirs:
            continue
        value = theirs.pop(shared)
        leaf = shared.rpartition(".")[2]
        without = [f"{x}.self_attn.{leaf}" for x in layers if f"{x}.self_attn.{leaf}" not in theirs]
        theirs |= dict.fromkeys(without, value)
        notes.append(
            f"{shared} goes into {len(without)} layers"
            if without
            else f"{shared} is not used: every layer has a copy of its own"
        )
    return theirs, notes


def _taken(link: Link, theirs: Mapping[str, Tensor], sizes: Sizes) -> Tensor:
    missing = [name for name in link.theirs if name not in theirs]
    if missing:
        there = [name for name in link.theirs if name in theirs]
        raise CheckpointError(
            f"the file has {', '.join(there)} without {', '.join(missing)}; expected all of them"
        )
    parts = [theirs[name] for name in link.theirs]
    try:
        return link.layout.take(parts, sizes)
    except (RuntimeError, IndexError, ValueError) as error:
        raise _unfit(link.theirs, parts, sizes) from error


def _given(link: Link, tensor: Tensor, sizes: Sizes) -> list[Tensor]:
    try:
        return list(link.layout.give(tensor, sizes))
    except (RuntimeError, IndexError, ValueError) as error:
        raise _unfit((link.ours,), [tensor], sizes) from error


def _unfit(names: Iterable[str], tensors: Iterable[Tensor], sizes: Sizes) -> CheckpointError:
    shapes = Counter(f"{n} {list(t.shape)}" for n, t in zip(names, tensors, strict=True))
    return CheckpointError(
        f"{', '.join(shapes)}: not a shape of such a tensor with {sizes.channels} subsampling "
        f"channels and {sizes.books} codebooks"
    )


def _sizes(state: Mapping[str, Tensor], first: str, books: int | None = None) -> Sizes:
    """Read the sizes off the first convolution and the codebooks, which both sides call alike."""
    convolution, codebooks = state.get(first), state.get("quantizer.codebooks")
    return Sizes(
        channels=1 if convolution is None else convolution.shape[0],
        books=codebooks.shape[0] if codebooks is not None else books or 1,
    )


def _has_books(state: Mapping[str, Tensor]) -> bool:
    """Whether the head is one of codebooks; that of a transcribing task has no counterpart."""
    return "head.weight" in state and state["head.weight"].ndim == 3
