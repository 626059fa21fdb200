"""Evaluation of one split: sums over batches and ranks, with training's random state set aside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from core.contracts import Batch, Eventful, Task
from core.dist.ranks import Ranks
from core.errors import TrainingError
from core.train.rng import rng_set_aside


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMetrics:
    """What the evaluation of a split gave.

    Args:
        values: averages named ``split/name``.
        uncounted: names of those that nothing was counted for. They are NaN as a bad value is, but
            tell nothing of the model.
    """

    values: dict[str, float]
    uncounted: frozenset[str]


@torch.no_grad()
def evaluate_split(
    task: Task,
    batches: Iterable[Batch],
    *,
    split: str,
    ranks: Ranks,
    autocast: Callable[[], AbstractContextManager[object]],
    seed: int,
    say: Callable[[str], None],
) -> SplitMetrics:
    """Return ``split/name`` averages, each a sum over all ranks divided by its count.

    What no utterance counted for is NaN, and said.

    Utterances that could not be used are named one by one and counted as ``split/skipped``, and
    what batches report of how they were made is counted by its name, as ``split/noise_retries``.

    Args:
        task: put into evaluation mode for the length of the call.
        batches: this rank's share of the split.
        split: prefix of the metric names.
        ranks: the processes to sum over.
        autocast: precision context for each batch.
        seed: any randomness in evaluation is the same each time.
        say: gets a line for each utterance that could not be used, and one for all events.

    Raises:
        TrainingError: if no rank saw an utterance.
    """
    sums: dict[str, float] = {}
    utterances = 0
    skipped: list[str] = []
    events: Counter[str] = Counter()
    was_training = task.training
    task.eval()
    try:
        with rng_set_aside(seed):
            for batch in batches:
                utterances += len(batch)
                skipped += [f"{s.id}: {s.reason} {s.detail}".rstrip() for s in batch.skipped]
                if isinstance(batch, Eventful):
                    events.update(batch.events)
                if len(batch):
                    with autocast():
                        metrics = task.evaluate(batch.to(ranks.device))
                    for name, metric in metrics.items():
                        for key, value in (("total", metric.total), ("count", metric.count)):
                            sums[f"{name}.{key}"] = sums.get(f"{name}.{key}", 0.0) + float(value)
    finally:
        task.train(was_training)
    lost = [line for lines in ranks.gather(skipped) for line in lines]
    for line in lost:
        say(f"{split}: skipped {line}")
    averages = _averages(sums, utterances, split=split, ranks=ranks, say=say)
    others = {f"{split}/skipped": float(len(lost))} if lost else {}
    others |= _events(events, split=split, ranks=ranks, say=say)
    return replace(averages, values=averages.values | others)


def _events(
    mine: Counter[str], *, split: str, ranks: Ranks, say: Callable[[str], None]
) -> dict[str, float]:
    """Return the events of all ranks as metrics, and tell of them."""
    events: Counter[str] = Counter()
    for counts in ranks.gather(dict(mine)):
        events.update(counts)
    if events:
        say(f"{split}: " + ", ".join(f"{name}: {n}" for name, n in sorted(events.items())))
    return {f"{split}/{name.replace(' ', '_')}": float(n) for name, n in sorted(events.items())}


def _averages(
    sums: dict[str, float],
    utterances: int,
    *,
    split: str,
    ranks: Ranks,
    say: Callable[[str], None],
) -> SplitMetrics:
    # A rank without a batch has no names yet; all must reduce the same vector.
    names = sorted({name for held in ranks.gather(sorted(sums)) for name in held})
    complete = {name: sums.get(name, 0.0) for name in names} | {"utterances": float(utterances)}
    summed = ranks.sum_named(complete)
    if summed["utterances"] == 0:
        raise TrainingError(f"the evaluation split '{split}' has no usable utterance")
    metrics = {name.removesuffix(".total") for name in names if name.endswith(".total")}
    empty = [name for name in sorted(metrics) if summed[f"{name}.count"] == 0]
    if empty:
        say(f"{split}: nothing was counted for {', '.join(empty)}")
    values = {
        f"{split}/{name}": _ratio(summed[f"{name}.total"], summed[f"{name}.count"])
        for name in sorted(metrics)
    }
    return SplitMetrics(values=values, uncounted=frozenset(f"{split}/{name}" for name in empty))


def _ratio(total: float, count: float) -> float:
    """Return the average; NaN of nothing, which trackers and checkpoints know from a bad value."""
    return total / count if count > 0 else math.nan
