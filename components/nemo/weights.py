"""NeMo's files as weights to start from, and as a form to export to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from components.nemo.archive import opened, write
from components.nemo.describe import configuration, history
from components.nemo.settings import Sections, settings_of
from components.nemo.state import as_task
from components.nemo.transfer import converted_from, import_into
from components.nemo.unmatched import unmatched
from core.checkpoint.start import StartReport
from core.registry import register


@register("weights", "nemo")
class NemoWeights:
    """A ``.nemo`` archive, or a ``.ckpt``, ``.pt`` or ``.safetensors`` file of NeMo's tensors.

    Args:
        location: path of the file.
        other_settings: start from an archive although its configuration says that the weights are
            meant for another function, such as another attention context.
    """

    def __init__(self, *, location: str, other_settings: bool = False) -> None:
        self.location = location
        self.other_settings = other_settings

    def load(self, module: nn.Module) -> StartReport:
        """Start a module from the file; see :func:`components.nemo.transfer.import_into`."""
        with opened(Path(self.location)) as content:
            report = import_into(
                module,
                content.state,
                config=content.config,
                source=self.location,
                other_settings=self.other_settings,
            )
        notes = history(content.config, as_task(module)) if content.config else []
        return report.with_notes(notes)

    def save(self, module: nn.Module) -> list[str]:
        """Write a module's state by NeMo's names; the suffix says in which form.

        Returns:
            Lines on what was written, on what NeMo has no place for, and on every setting that it
            has no counterpart for.

        Raises:
            CheckpointError: the module has no encoder that NeMo knows, the suffix is unknown, or
                the file cannot be written.
        """
        path = Path(self.location)
        replaced = path.exists()
        task = as_task(module)
        converted = converted_from(task)
        config: dict[str, Any] = configuration(task)
        form = write(path, converted.state, config)
        fixed = ("running_mean", "running_var", "num_batches_tracked", ".window", ".fb")
        values = sum(t.numel() for n, t in converted.state.items() if not n.endswith(fixed))
        lines = [
            f"{path}: {form}" + (", in place of the former file" if replaced else ""),
            f"{len(converted.state)} tensors, {values:,} parameters",
        ]
        # A part without parameters only counts, such as a metric.
        weighty = {name.partition(".")[0] for name, _ in task.named_parameters()}
        lost = [name for name in converted.left_out if name.partition(".")[0] in weighty]
        if lost:
            lines.append(f"without counterpart in NeMo: {', '.join(lost)}")
        if "target" not in config:
            lines.append("encoder and features alone: NeMo restores whole models from archives")
        sections = settings_of(task)
        lines += [f"not the same in NeMo: {line}" for line in unmatched(task, sections)]
        return lines + (_padding(sections, config) if path.suffix == ".nemo" else [])


def _padding(sections: Sections, config: dict[str, Any]) -> list[str]:
    """Say that features are padded further than here, where they are."""
    if "quantizer" not in sections or "preprocessor" not in sections:
        return []
    own, written = sections["preprocessor"]["pad_to"], config["preprocessor"]["pad_to"]
    if own == written:
        return []
    stack = sections["quantizer"]["combine_time_steps"]
    return [
        f"preprocessor.pad_to is {written}: NeMo's quantizer takes stacks of {stack} frames, and "
        "only whole ones; real frames are the same"
    ]
