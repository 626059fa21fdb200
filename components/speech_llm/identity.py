"""Which base model an adapter belongs to: sizes and digests of its files, in part of a second.

Adapters fit every base of the same shapes and are right for one of them. Reading 9 GB at every
start would tell them apart with certainty. What adapters are mostly on, and what differs where one
was merged, is the projector: it is read whole, 50 MB. Of every other tensor, samples are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from components.speech_llm.missing import CONFIG, read_config, weight_names
from components.speech_llm.stored import StoredTensor, stored_tensors
from core.contracts import RunContext
from core.data.assets import main_rank_first
from core.data.fingerprint import Fingerprint
from core.errors import CheckpointError

ASSET = "speech_llm_base.json"
PROJECTOR = "multi_modal_projector"
SAMPLES = 4
SAMPLE_BYTES = 4_096
"""Of each tensor outside the projector, spread from its first byte to its last."""
BLOCK_BYTES = 1 << 20
_UNIMPORTANT = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache")


def identify(folder: Path) -> Fingerprint:
    """Return what tells a base model from others: its settings, and each file of weights."""
    settings = {k: v for k, v in read_config(folder / CONFIG).items() if k not in _UNIMPORTANT}
    fields: dict[str, Any] = {
        "config": Fingerprint(fields=settings).digest,
        "weights": {name: _weights(folder / name) for name in weight_names(folder)},
    }
    return Fingerprint(fields=fields)


def require_same(found: Fingerprint, context: RunContext, *, folder: Path) -> None:
    """Keep the identity of a base with a new run; compare it where a run or model has one.

    Raises:
        CheckpointError: the adapter was trained on another base, or its assets do not say which.
    """
    file = context.assets / ASSET
    with main_rank_first(context):
        if not file.is_file():
            if not context.training:
                raise CheckpointError(f"{file} is missing; it says which base model is needed")
            if context.rank == 0:
                context.assets.mkdir(parents=True, exist_ok=True)
                file.write_bytes(found.to_json())
            return
        kept = Fingerprint.read(file)
    if kept.digest != found.digest:
        raise CheckpointError(
            f"{folder} is not the base model that this adapter was trained on: "
            f"{'; '.join(differences(kept, found))}"
        )


def differences(kept: Fingerprint, found: Fingerprint) -> list[str]:
    """Say in what a base differs from the one that was kept, a line each."""
    lines = [] if kept.fields["config"] == found.fields["config"] else ["its settings differ"]
    then, now = kept.fields["weights"], found.fields["weights"]
    lines += [f"{name} is not there" for name in then if name not in now]
    lines += [f"{name} is new" for name in now if name not in then]
    for name in [name for name in then if name in now and then[name] != now[name]]:
        parts = [part for part in then[name] if then[name][part] != now[name].get(part)]
        lines.append(f"{name} differs in its {', '.join(parts)}")
    return lines


def _weights(file: Path) -> dict[str, Any]:
    """Return size and digests of a safetensors file: header, whole projector, samples of the rest.

    Raises:
        CheckpointError: it is no safetensors file, or is cut short.
    """
    places = stored_tensors(file)
    projector, samples = hashlib.sha256(), hashlib.sha256()
    with file.open("rb") as stream:
        header = hashlib.sha256(stream.read(int.from_bytes(stream.read(8), "little")))
        for place in places:
            if PROJECTOR in place.name.split("."):
                _take(projector, stream, place.start, place.size)
                continue
            for start, size in _spread(place):
                _take(samples, stream, start, size)
    return {
        "size": file.stat().st_size,
        "header": header.hexdigest(),
        "projector": projector.hexdigest(),
        "samples": samples.hexdigest(),
    }


def _spread(place: StoredTensor) -> Iterator[tuple[int, int]]:
    """Yield start and size of the samples of a tensor; of the whole where that is no more."""
    if place.size <= SAMPLES * SAMPLE_BYTES:
        yield place.start, place.size
        return
    last = place.size - SAMPLE_BYTES
    for number in range(SAMPLES):
        yield place.start + last * number // (SAMPLES - 1), SAMPLE_BYTES


def _take(digest: hashlib._Hash, stream: BinaryIO, start: int, size: int) -> None:
    stream.seek(start)
    while size > 0 and (block := stream.read(min(size, BLOCK_BYTES))):
        digest.update(block)
        size -= len(block)
