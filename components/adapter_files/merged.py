"""Full models as folders of transformers: written with the adapter merged, and used as they are."""

from __future__ import annotations

from pathlib import Path

import fiddle as fdl
from torch import nn

from components.adapter_files.experiment import experiment_of, notes_of, speech_llm_of, text_of
from components.adapter_files.measure import measure
from components.adapter_files.merge import deltas, merge
from components.adapter_files.notes import Notes
from components.speech_llm.base import find_base
from components.speech_llm.families import FAMILIES
from components.speech_llm.identity import ASSET, identify
from components.speech_llm.lora import LoRA
from components.speech_llm.missing import CONFIG, read_config
from core.checkpoint.atomic import publish, scratch
from core.checkpoint.start import StartReport
from core.errors import CheckpointError, ConfigError
from core.experiment import Experiment
from core.registry import register


@register("weights", "merged")
class MergedWeights:
    """A folder that transformers, and engines that read its form, open without an adapter.

    Saving merges a model's adapter into the files of its base: weights that are not adapted, the
    configuration and the tokenizer stay what they were, byte for byte. A base that was quantised
    for training is merged as it is stored.

    A folder of a speech LLM, merged or as published, can be transcribed with and evaluated.

    Args:
        location: path of the folder.
    """

    adapts = False

    def __init__(self, *, location: str) -> None:
        self.location = location

    @property
    def folder(self) -> Path:
        """Where the model is."""
        return Path(self.location)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        """Return whether a folder has the configuration of a speech LLM."""
        try:
            return read_config(folder / CONFIG)["model_type"] in FAMILIES
        except ConfigError:
            return False

    # ------------------------------------------------------------------------ use as a model

    def experiment(self, *, base: str | None) -> fdl.Config[Experiment]:
        """Return the configuration of a task with the model alone.

        Raises:
            ConfigError: a base is named; the folder is one.
        """
        if base is not None:
            raise ConfigError(f"{self.folder} is a whole model; --base is for adapters")
        notes = Notes.read(self.folder)
        return experiment_of(
            name="model",
            base=str(self.folder),
            lora=fdl.Config(LoRA, rank=1, dropout=0.0),
            notes=notes,
            text=text_of(notes, folder=self.folder),
        )

    def write_assets(self, assets: Path, module: nn.Module) -> list[str]:
        """Write that the folder is its own base."""
        (assets / ASSET).write_bytes(identify(self.folder).to_json())
        return []

    def load(self, module: nn.Module) -> StartReport:
        """Leave the adapter at zero, as it is drawn, if the folder is the module's base.

        Raises:
            CheckpointError: the module has another base; a whole model is named as one.
        """
        llm = speech_llm_of(module)
        if Path(llm.base).resolve() != self.folder.resolve():
            raise CheckpointError(
                f"{self.folder} is a whole model: train on it with task.model.base={self.folder}"
            )
        return StartReport(taken=(), fresh={"adapter": "it adds nothing"}, unused=())

    # ----------------------------------------------------------------------------------- save

    def save(self, module: nn.Module) -> list[str]:
        """Write the base with the adapter merged, open it, and compare its logits.

        Raises:
            CheckpointError: the module has no adapter, the folder is not empty, the base's files
                cannot take the adapter, or nothing can be written.
        """
        llm = speech_llm_of(module)
        base, _ = find_base(llm.base)
        _require_new(self.folder, base=base)
        notes, lost = notes_of(module, base=None)
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with scratch(self.folder.parent, self.folder.name) as work:
                made = merge(base, deltas(llm), into=work)
                notes.write(work)
                found = measure(llm, work, language=notes.language)
                publish(work, self.folder)
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be written: {error}") from error
        lines = [f"{self.folder}: {base} with the adapter merged into {', '.join(made.changed)}"]
        if made.left_out:
            lines.append(f"not copied, since not merged: {', '.join(made.left_out)}")
        return [*lines, *found.lines(), *lost]


def _require_new(folder: Path, *, base: Path) -> None:
    if folder.resolve() == base.resolve():
        raise CheckpointError(f"{folder} is the base model itself; name another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not empty; name a new folder")
