"""An adapter merged into the weights of its base, file by file.

The base is not rewritten from memory, where it may be quantised: its own files are copied, and in
the copy the bytes of the adapted weights alone are replaced, in the dtype that they have there. All
other weights stay those that were published, bit for bit, and writing takes the memory of one
matrix. Comparing the logits afterwards takes that of a second model.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.adapter_files.names import BEFORE, modules, today
from components.speech_llm.missing import weight_names
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.stored import StoredTensor, stored_tensors
from core.errors import CheckpointError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_OTHER_WEIGHTS = (
    ".bin",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".pt",
    ".pth",
    ".safetensors",
)
_OTHER_FORMS = ("params.json",)
"""Settings of a second, unmerged form of the weights; with them an engine would look for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What was done.

    Args:
        changed: names of the merged weights, as their files have them.
        left_out: files of the base that were not copied.
    """

    changed: tuple[str, ...]
    left_out: tuple[str, ...]


def deltas(llm: SpeechLLM) -> dict[str, tuple[Tensor, Tensor]]:
    """Return ``alpha / rank * B`` and A of each adapted module, by its name, in float64."""
    state = llm.adapter_state()
    scale = llm.lora.alpha / llm.lora.rank
    found = {}
    for name in modules(state):
        first, second = (state[f"{BEFORE}{name}.lora_{side}.weight"] for side in ("A", "B"))
        found[name] = (scale * second.detach().cpu().double(), first.detach().cpu().double())
    return found


def merge(base: Path, parts: Mapping[str, tuple[Tensor, Tensor]], *, into: Path) -> Merged:
    """Copy a base model with ``B A`` added to each adapted weight.

    Args:
        base: folder of the base model.
        parts: scaled B and A by module.
        into: empty folder.

    Raises:
        CheckpointError: a weight is not in the files, or not in a floating dtype there.
        OSError: a file cannot be read or written.
    """
    weights = weight_names(base)
    places = {f"{module}.weight": None for module in parts} | {
        today(tensor.name): tensor for name in weights for tensor in stored_tensors(base / name)
    }
    chosen = {module: places[f"{module}.weight"] for module in parts}
    problems = [
        problem for module, place in chosen.items() if (problem := _problem(module, place, parts))
    ]
    if problems:
        raise CheckpointError(f"{base} cannot take the adapter: {'; '.join(problems)}")
    left_out = _copy(base, into, weights=weights)
    for module, place in chosen.items():
        assert place is not None
        _add(into / place.file, place, *parts[module])
    changed = tuple(place.name for place in chosen.values() if place is not None)
    return Merged(changed=changed, left_out=left_out)


def _problem(
    module: str, place: StoredTensor | None, parts: Mapping[str, tuple[Tensor, Tensor]]
) -> str | None:
    """Say why a weight cannot be merged; None if it can."""
    if place is None:
        return f"{module}.weight is in none of its files"
    if place.dtype not in DTYPES:
        return f"{place.name} is stored as {place.dtype}"
    second, first = parts[module]
    wanted = (second.shape[0], first.shape[1])
    if place.shape != wanted:
        return f"{place.name} has shape {place.shape}, the adapter {wanted}"
    return None


def _copy(base: Path, into: Path, *, weights: list[str]) -> tuple[str, ...]:
    """Copy a model's files; return what was left out: other forms of the weights, and folders."""
    left_out = []
    for path in sorted(base.iterdir()):
        other = path.suffix in _OTHER_WEIGHTS and path.name not in weights
        other |= path.name.endswith(".index.json") and path.name.startswith("pytorch_")
        if path.is_dir() or other or path.name in _OTHER_FORMS:
            left_out.append(path.name)
        elif not path.name.startswith("."):
            shutil.copyfile(path, into / path.name)  # Of a link, what it leads to.
    return tuple(left_out)


def _add(file: Path, place: StoredTensor, second: Tensor, first: Tensor) -> None:
    dtype = DTYPES[place.dtype]
    with file.open("r+b") as stream:
        stream.seek(place.start)
        stored = torch.frombuffer(bytearray(stream.read(place.size)), dtype=dtype)
        exact = stored.view(place.shape).double() + second @ first
        stream.seek(place.start)
        stream.write(exact.to(dtype).contiguous().view(torch.uint8).numpy().tobytes())
