"""Adapters in peft's form, as weights to start from, to export to, and to use as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fiddle as fdl
from torch import Tensor, nn

from components.adapter_files.experiment import experiment_of, notes_of, speech_llm_of, text_of
from components.adapter_files.folder import (
    check_adapter,
    is_adapter,
    read_adapter,
    write_weights,
)
from components.adapter_files.names import modules
from components.adapter_files.notes import NOTES, Notes
from components.adapter_files.settings import CONFIG, AdapterSettings, read_settings
from components.adapter_files.targets import require_whole
from components.speech_llm.base import find_base
from components.speech_llm.identity import ASSET, differences, identify
from components.speech_llm.lora import LoRA
from components.speech_llm.missing import is_id
from components.speech_llm.speech_llm import SpeechLLM
from components.tasks.speech_adapter import SpeechAdapterTask
from core.checkpoint.atomic import publish, scratch
from core.checkpoint.start import StartReport, Taken
from core.data.fingerprint import Fingerprint
from core.errors import CheckpointError
from core.experiment import Experiment
from core.registry import register

_CARD = """---
library_name: peft
base_model: {base}
pipeline_tag: automatic-speech-recognition
---

LoRA of rank {rank} (alpha {alpha:g}) for {base}, trained with Sori.

```python
from peft import PeftModel
from transformers import {model_class}

model = {model_class}.from_pretrained("{base}")
model = PeftModel.from_pretrained(model, "PATH OF THIS FOLDER")
```
"""


@register("weights", "peft")
class PeftWeights:
    """A folder with ``adapter_config.json`` and ``adapter_model.safetensors``, as peft has it.

    It opens with ``PeftModel.from_pretrained`` and nothing of Sori's. Beside what peft needs,
    ``sori.json`` says which base model it belongs to and how the task asked and scored.

    Every tensor of a file must find its place, and every place its tensor. Names of transformers 4
    are mapped to today's: peft itself would leave such an adapter at zero, with a warning.

    Args:
        location: path of the folder.
        other_base: start from an adapter although it was trained on another base model.
    """

    adapts = True

    def __init__(self, *, location: str, other_base: bool = False) -> None:
        self.location = location
        self.other_base = other_base

    @property
    def folder(self) -> Path:
        """Where the adapter is."""
        return Path(self.location)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        """Return whether a folder is an adapter of peft's."""
        return is_adapter(folder)

    # ------------------------------------------------------------------------ use as a model

    def experiment(self, *, base: str | None) -> fdl.Config[Experiment]:
        """Return the configuration of the task that the adapter is for.

        Args:
            base: folder or id of the base model; None for the one that the adapter names.

        Raises:
            CheckpointError: the folder is no plain LoRA, or neither names a base.
        """
        check_adapter(self.folder)
        settings = read_settings(self.folder)
        state, _ = read_adapter(self.folder)
        chosen = base or settings.base
        if chosen is None:
            raise CheckpointError(f"{self.folder} names no base model; name one with --base")
        notes = Notes.read(self.folder)
        lora = fdl.Config(
            LoRA,
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            targets=modules(state),
        )
        text = text_of(notes, folder=self.folder)
        return experiment_of(name="adapter", base=chosen, lora=lora, notes=notes, text=text)

    def write_assets(self, assets: Path, module: nn.Module) -> list[str]:
        """Write which base model a task must have; any that fits where the folder does not say."""
        notes = Notes.read(self.folder)
        if notes is not None and notes.base is not None:
            identity = Fingerprint(fields=notes.base)
        else:
            identity = identify(find_base(speech_llm_of(module).base)[0])
        (assets / ASSET).write_bytes(identity.to_json())
        return []  # load() says what the folder does not.

    # ----------------------------------------------------------------------- load and save

    def load(self, module: nn.Module) -> StartReport:
        """Take the adapter into a model whose base is loaded.

        Raises:
            CheckpointError: the folder is no plain LoRA, it is of another base or scale, a layer
                that its settings name has no tensors, or a tensor has no place or a place no
                tensor; nothing was loaded.
        """
        llm = speech_llm_of(module)
        check_adapter(self.folder)
        settings = read_settings(self.folder)
        _require_scale(settings, llm.lora, folder=self.folder)
        notes = self._unknown(module)
        if not self.other_base:
            self._require_base(llm)
        state, mapped = read_adapter(self.folder)
        self._require_whole(settings, state, llm)
        try:
            llm.load_adapter_state(state)
        except CheckpointError as error:
            raise CheckpointError(f"{self.folder}: {error}") from error
        values = sum(tensor.numel() for tensor in state.values())
        taken = Taken(name="adapter", tensors=len(state), values=values)
        return StartReport(taken=(taken,), fresh={}, unused=(), notes=(*mapped, *notes))

    def save(self, module: nn.Module) -> list[str]:
        """Write a model's adapter; return lines on what was written.

        Raises:
            CheckpointError: the module has no adapter, the folder holds something else, or it
                cannot be written.
        """
        llm = speech_llm_of(module)
        replaced = _require_free(self.folder)
        base, family = find_base(llm.base)
        notes, lost = notes_of(module, base=dict(identify(base).fields))
        name = llm.base if is_id(llm.base) and not Path(llm.base).is_dir() else str(base.resolve())
        state = llm.adapter_state()
        card = _CARD.format(
            base=name, rank=llm.lora.rank, alpha=llm.lora.alpha, model_class=family.model_class
        )
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with scratch(self.folder.parent, self.folder.name) as work:
                _write_settings(llm, work, base=name)
                write_weights(work, state)
                notes.write(work)
                (work / "README.md").write_text(card, encoding="utf-8")
                publish(work, self.folder)
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be written: {error}") from error
        values = sum(tensor.numel() for tensor in state.values())
        return [
            f"{self.folder}: peft" + (", in place of the former adapter" if replaced else ""),
            f"{len(state)} tensors, {values:,} parameters, for {name}",
            *lost,
        ]

    def _require_whole(
        self, settings: AdapterSettings, state: Mapping[str, Tensor], llm: SpeechLLM
    ) -> None:
        """Refuse tensors that are not those of the settings: half an adapter computes as well."""
        own = llm.net.targeted_module_names
        # What does not fit the model's own layers is told tensor by tensor when they are taken.
        if set(modules(state)) == set(own):
            require_whole(settings.targets, own, llm.net.base_model.model, source=str(self.folder))

    def _unknown(self, module: nn.Module) -> list[str]:
        """Say what is taken in the place of what the folder does not tell."""
        notes = Notes.read(self.folder)
        if notes is not None and notes.base is not None:
            return []
        llm = speech_llm_of(module)
        base, _ = find_base(llm.base)
        if notes is not None:
            return [f"{self.folder / NOTES} names no base model; taking {base}"]
        taken = [f"base {base}", f"quantization {llm.quantization}", f"dtype {llm.dtype}"]
        settings = ["task.model.quantization", "task.model.dtype"]
        if isinstance(module, SpeechAdapterTask):
            named, form = module.language, module.text
            taken.append("no language" if named is None else f"language {named}")
            taken.append(f"scores {'as written' if form is None else f'in {form.fingerprint}'}")
            settings += ["task.language", "task.text"]
        return [
            f"{self.folder} has no {NOTES}, so what it was trained with is not known; taking "
            f"{', '.join(taken)}; --base and {', '.join(settings)} change that"
        ]

    def _require_base(self, llm: SpeechLLM) -> None:
        """Refuse another base model than the one that the folder tells."""
        notes = Notes.read(self.folder)
        if notes is None or notes.base is None:
            return
        found, _ = find_base(llm.base)
        kept, own = Fingerprint(fields=notes.base), identify(found)
        if kept.digest != own.digest:
            raise CheckpointError(
                f"{self.folder} was trained on another base model than {found}: "
                f"{'; '.join(differences(kept, own))}; to start from it all the same, name it "
                f"peft:{self.folder}?other_base=true"
            )


def _require_scale(settings: AdapterSettings, lora: LoRA, *, folder: Path) -> None:
    found: Mapping[str, Any] = {"rank": settings.rank, "alpha": settings.alpha}
    wrong = {n: v for n, v in found.items() if v != getattr(lora, n)}
    if wrong:
        have = ", ".join(f"{n} {v:g}" for n, v in wrong.items())
        want = ", ".join(f"{n} {getattr(lora, n):g}" for n in wrong)
        hint = " ".join(f"task.model.lora.{n}={v:g}" for n, v in wrong.items())
        raise CheckpointError(f"{folder} has {have}; this model has {want}; set {hint}")


def _require_free(folder: Path) -> bool:
    """Return whether an adapter is replaced. Raises CheckpointError for any other content."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder")
    empty = not any(folder.iterdir())
    if not empty and not is_adapter(folder):
        raise CheckpointError(f"{folder} is not empty and holds no {CONFIG}; name another folder")
    return not empty


def _write_settings(llm: SpeechLLM, folder: Path, *, base: str) -> None:
    settings = llm.net.peft_config[llm.net.active_adapter]
    before = settings.base_model_name_or_path, settings.inference_mode
    settings.base_model_name_or_path, settings.inference_mode = base, True
    try:
        settings.save_pretrained(str(folder))
    finally:
        settings.base_model_name_or_path, settings.inference_mode = before
