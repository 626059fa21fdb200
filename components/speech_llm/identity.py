"""Which base model an adapter belongs to: sizes and digests of its files, in milliseconds.

Adapters fit every base of the same shapes and are right for one of them. Reading 9 GB at every
start would tell them apart with certainty; configuration, names, shapes and samples of the weights
tell them apart in milliseconds.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from components.speech_llm.missing import CONFIG, read_config, weight_names
from core.contracts import RunContext
from core.data.assets import main_rank_first
from core.data.fingerprint import Fingerprint
from core.errors import CheckpointError

ASSET = "speech_llm_base.json"
SAMPLES = 64
SAMPLE_BYTES = 16_384
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
    """Return size, digest of the header, and digest of samples spread over a safetensors file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= size - 8:
            raise CheckpointError(f"{file} is no safetensors file, or is cut short")
        header = hashlib.sha256(stream.read(length)).hexdigest()
        samples = hashlib.sha256()
        first, last = 8 + length, max(size - SAMPLE_BYTES, 8 + length)
        for number in range(SAMPLES):
            stream.seek(first + (last - first) * number // (SAMPLES - 1))
            samples.update(stream.read(SAMPLE_BYTES))
    return {"size": size, "header": header, "samples": samples.hexdigest()}
