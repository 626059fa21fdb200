"""The experiment that a folder of weights stands for, so that it can be used without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiddle as fdl
from torch import nn

from components.adapter_files.notes import Notes, configured, described
from components.datasets.speech_llm import SpeechLLMData
from components.optimizers.adamw import AdamW
from components.schedulers.constant import Constant
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.tasks.speech_adapter import SpeechAdapterTask
from core.errors import CheckpointError
from core.experiment import Experiment
from core.train.trainer import Trainer

BATCH = 8
"""Utterances that are transcribed together, unless ``data.batch_size`` says otherwise."""


def experiment_of(
    *,
    name: str,
    base: str,
    lora: fdl.Config[LoRA],
    notes: Notes | None,
    text: fdl.Config[Any] | None,
) -> fdl.Config[Experiment]:
    """Return a configuration whose task transcribes with a base model and an adapter.

    Args:
        name: of the experiment.
        base: folder or id of the base model.
        lora: the adapter.
        notes: what the folder says of the task; None if it says nothing.
        text: normal form of scores.
    """
    known = notes or Notes()
    model = fdl.Config(SpeechLLM, base=base, lora=lora, **known.model)
    task = fdl.Config(
        SpeechAdapterTask,
        model=model,
        language=known.language,
        text=text,
        prompt_chunks=known.prompt_chunks,
    )
    data = fdl.Config(
        SpeechLLMData, train="", validation={}, test={}, batch_size=BATCH, model=model, text=text
    )
    return fdl.Config(
        Experiment,
        name=name,
        task=task,
        data=data,
        optimizer=fdl.Config(AdamW, lr=1e-4),
        scheduler=fdl.Config(Constant),
        trainer=fdl.Config(Trainer, max_steps=1),
    )


def notes_of(module: nn.Module, *, base: dict[str, Any] | None) -> tuple[Notes, list[str]]:
    """Return what to keep beside a task's weights, and lines on what cannot be kept.

    Args:
        module: a task, or a model alone.
        base: identity of its base model.
    """
    llm = speech_llm_of(module)
    settings: dict[str, Any] = {
        "quantization": llm.quantization,
        "dtype": llm.dtype,
        "max_new_tokens": llm.max_new_tokens,
    }
    if not isinstance(module, SpeechAdapterTask):
        return Notes(model=settings, base=base), []
    text = None if module.text is None else described(module.text)
    lost = module.text is not None and text is None
    made = Notes(
        language=module.language,
        prompt_chunks=module.prompt_chunks,
        text=text,
        model=settings,
        base=base,
    )
    return made, ["its normal form of texts cannot be kept; set task.text to score"] if lost else []


def text_of(notes: Notes | None, *, folder: Path) -> fdl.Config[Any] | None:
    """Return the normal form that a folder names, None for none. Raises CheckpointError."""
    if notes is None or notes.text is None:
        return None
    return configured(notes.text, folder=folder)


def speech_llm_of(module: nn.Module) -> SpeechLLM:
    """Return the speech LLM inside a module. Raises CheckpointError."""
    for part in module.modules():
        if isinstance(part, SpeechLLM):
            return part
    raise CheckpointError(f"a {type(module).__name__} has no speech LLM, so no adapter either")
