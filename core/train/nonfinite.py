"""Where a non-finite loss or gradient came from: the first module, and the utterances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.contracts import Batch, LossSum, Task
from core.train.rng import load_rng_state, rng_state
from core.train.step import SWITCH


def locate(task: Task, batches: Sequence[Batch]) -> tuple[int, str]:
    """Run the batches once more without gradient and name what first stopped being finite.

    Random state and buffers are left as they were found, so looking changes nothing.

    Returns:
        How indirect the evidence is (0 a module or loss, 1 parameters, 2 gradients alone), so that
        the clearest of several ranks' findings can be told by ``min``; and the finding.
    """
    saved = rng_state()
    buffers = [buffer.clone() for buffer in task.buffers()]
    # Ranks stop at different modules, so none may wait for the others' batch statistics here.
    shared = [module for module in task.modules() if getattr(module, SWITCH, False)]
    for module in shared:
        setattr(module, SWITCH, False)
    try:
        for batch in batches:
            found = _first_nonfinite(task, batch)
            if found:
                return 0, found
    finally:
        load_rng_state(saved)
        for module in shared:
            setattr(module, SWITCH, True)
        for buffer, before in zip(task.buffers(), buffers, strict=True):
            buffer.copy_(before)
    broken = [name for name, p in task.named_parameters() if not _finite(p)]
    if broken:
        return 1, f"parameters are already non-finite: {', '.join(broken[:5])}"
    gradients = [
        name for name, p in task.named_parameters() if p.grad is not None and not _finite(p.grad)
    ]
    ids = ", ".join(utterance for batch in batches for utterance in batch.ids[:8])
    return 2, (
        f"the forward pass is finite; the gradient is not, in {len(gradients)} parameters "
        f"({', '.join(gradients[:5])}); utterances: {ids}"
    )


def _first_nonfinite(task: Task, batch: Batch) -> str | None:
    found: list[str] = []
    with _watch(task, batch, found), torch.no_grad():
        losses: dict[str, LossSum] = task(task.prepare(batch))
    if found:
        return found[0]
    broken = [name for name, loss in losses.items() if not _finite(loss.total)]
    if broken:
        return f"loss {', '.join(broken)} of utterances {', '.join(batch.ids[:8])}"
    return None


@contextmanager
def _watch(task: nn.Module, batch: Batch, found: list[str]) -> Iterator[None]:
    """Hook every module; the first whose output is non-finite adds a line to ``found``."""

    def hook_for(name: str, module: nn.Module) -> Any:  # noqa: ANN401
        def hook(_: nn.Module, __: Any, output: Any) -> None:  # noqa: ANN401
            for tensor in _tensors(output):
                if not found and not _finite(tensor):
                    ids = _rows(tensor, batch)
                    found.append(f"output of {name} ({type(module).__name__}), {ids}")

        return hook

    handles = [
        module.register_forward_hook(hook_for(name, module))
        for name, module in task.named_modules()
        if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(tensor: Tensor, batch: Batch) -> str:
    if tensor.ndim == 0 or tensor.shape[0] != len(batch):
        return f"utterances {', '.join(batch.ids[:8])}"
    bad = ~torch.isfinite(tensor.flatten(1)).all(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
    return f"utterances {', '.join(batch.ids[i] for i in bad.nonzero().flatten().tolist()[:8])}"


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _tensors(output: Any) -> Iterator[Tensor]:  # noqa: ANN401
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for item in output:
            yield from _tensors(item)
    elif isinstance(output, dict):
        for item in output.values():
            yield from _tensors(item)
