"""Whether a data position from a checkpoint still means the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import DataError


def check_kind(state: Mapping[str, Any], kind: str) -> None:
    """Refuse a position that another kind of stream wrote. Raises DataError."""
    if state.get("kind") != kind:
        raise DataError(
            f"the data position is of a '{state.get('kind')}' stream, and this one is '{kind}'; "
            "the training source has changed since the checkpoint"
        )


def check_same_data(
    state: Mapping[str, Any], identity: Mapping[str, Any], name: str, *, allow: bool
) -> bool:
    """Say whether a position is of the same manifest, seed and plan.

    Args:
        state: saved position, with the entries of ``identity`` as they were.
        identity: ``fingerprint``, ``seed`` and ``plan`` as they are.
        name: of the manifest.
        allow: return False where the data differ, instead of refusing them.

    Raises:
        DataError: if they differ and ``allow`` is not set.
    """
    changes = list(_changes(state, identity, name))
    if changes and not allow:
        raise DataError(
            "the training data are not those of the checkpoint:\n  "
            + "\n  ".join(changes)
            + "\nRestore them, start a new run with --init-from, or accept the change with "
            "--allow-data-change, which begins the epoch again"
        )
    return not changes


def first_batch(state: Mapping[str, Any], *, world_size: int) -> int:
    """Return the micro-batch at which each of ``world_size`` ranks goes on. Raises DataError."""
    position = int(state["batch"])
    if position % world_size:
        raise DataError(
            f"the checkpoint stands at micro-batch {position} of epoch {state['epoch']}, written "
            f"by {state['world_size']} ranks; {world_size} ranks cannot go on exactly, because "
            f"{position} is not a multiple of {world_size}; use {state['world_size']} ranks"
        )
    return position // world_size


def _changes(state: Mapping[str, Any], identity: Mapping[str, Any], name: str) -> Iterator[str]:
    if state["fingerprint"] != identity["fingerprint"]:
        yield (
            f"{name}: the manifest changed: "
            f"{state['fingerprint'][:16]} -> {identity['fingerprint'][:16]}"
        )
    if state["seed"] != identity["seed"]:
        yield f"seed: {state['seed']} -> {identity['seed']}"
    old, new = state["plan"], identity["plan"]
    for key in sorted({*old, *new}):
        # A setting that the checkpoint does not know of was off when it was written.
        if (old.get(key) or None) != (new.get(key) or None):
            yield f"{key}: {old.get(key)} -> {new.get(key)}"
