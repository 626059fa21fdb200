"""Checkpoints of IndexTTS2 as weights to start from, and as a form to export to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from components.adversary.emotion_bound import EmotionBound
from components.indextts.settings import differences
from components.indextts.transfer import Choices, as_model, import_into
from core.checkpoint.foreign import (
    PICKLES,
    SAFETENSORS,
    check_file,
    check_suffix,
    read_pickle,
    read_safetensors,
    written_whole,
)
from core.checkpoint.plain import flat_weights
from core.checkpoint.start import StartReport
from core.registry import register

SUFFIXES = (*PICKLES, SAFETENSORS)
INSIDE = ("model", "state_dict")
"""Where training checkpoints have the tensors."""
_LAST_BIAS = "emo_layer.bias"


@register("weights", "indextts")
class IndexTTSWeights:
    """The ``gpt.pth`` of IndexTTS2, or a ``.pt``, ``.ckpt`` or ``.safetensors`` file like it.

    Every tensor of the file and of the model must have its counterpart, of the same shape, but for
    what the options name and what is known to be no weight (masks of older transformers, second
    names). A model whose emotion is read from a mel spectrogram starts from published weights with
    ``indextts:gpt.pth?fresh=emo_conditioning_encoder.embed``: its input layers are drawn anew, as
    they were trained on features of another kind, and everything behind them is taken.

    Args:
        location: path of the file.
        fresh: modules or tensors of the model, separated by commas, that keep the values they were
            drawn with.
        ignore: modules or tensors of the file, separated by commas, to pass over.
        resize_vocabulary: with text vocabularies of different sizes, take the tokens that both
            have, by id; right for a tokenizer that extends the file's.
    """

    def __init__(
        self,
        *,
        location: str,
        fresh: str = "",
        ignore: str = "",
        resize_vocabulary: bool = False,
    ) -> None:
        self.location = location
        self.choices = Choices(
            fresh=_names(fresh), ignore=_names(ignore), resize_vocabulary=resize_vocabulary
        )

    def load(self, module: nn.Module) -> StartReport:
        """Start a module from the file; see :func:`components.indextts.transfer.import_into`."""
        path = Path(self.location)
        check_file(path, SUFFIXES)
        if path.suffix == SAFETENSORS:
            state = read_safetensors(path)
        else:
            state = read_pickle(path, label=str(path), inside=INSIDE)
        return import_into(module, state, source=self.location, choices=self.choices)

    def save(self, module: nn.Module) -> list[str]:
        """Write the model's tensors, and nothing else, by their published names.

        The centre that a bound takes from emotion vectors goes into the bias of the layer they
        come from, ``emo_layer``; stock inference then gives what the bound would only scale.

        Raises:
            CheckpointError: the module has no UnifiedVoice, the suffix is unknown, or the file
                cannot be written.
        """
        path = Path(self.location)
        check_suffix(path, SUFFIXES)
        replaced = path.exists()
        model = as_model(module)
        bounds = [m for m in module.modules() if isinstance(m, EmotionBound) and m.bound != "none"]
        state = dict(model.state_dict())
        for bound in bounds:
            if bound.bound == "centred":
                state[_LAST_BIAS] = state[_LAST_BIAS] - bound.centre.to(state[_LAST_BIAS])
        tensors = flat_weights(state, path="state")
        with written_whole(path) as made:
            if path.suffix == SAFETENSORS:
                safetensors.torch.save_file(tensors, made, metadata={"format": "pt"})
            else:
                torch.save(tensors, made)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        left = [
            n for n, child in module.named_children() if module is not model and child is not model
        ]
        lines = [
            f"{path}: IndexTTS2" + (", in place of the former file" if replaced else ""),
            f"{len(tensors)} tensors, {parameters:,} parameters",
        ]
        if left:
            lines.append(f"left out: {', '.join(left)}")
        return lines + _bounded(bounds) + differences(model)


def _bounded(bounds: Sequence[EmotionBound]) -> list[str]:
    """Say what the weights alone do not do to their emotion vectors."""
    lines = [
        f"the mean of its emotion vectors was taken from {_LAST_BIAS}"
        for bound in bounds
        if bound.bound == "centred"
    ]
    return lines + [
        f"its emotion vectors have a root mean square of {float(bound.target):g} in training, and "
        "stock inference leaves them as they come: scale them likewise, or train with "
        "task.bound.bound=none and a task.norm_weight"
        for bound in bounds
    ]


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip().rstrip(".") for name in text.split(","))))
