"""What a frozen model's representation tells: the work of ``python -m core.evaluate --probe``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from core import catalog
from core.checkpoint.atomic import write_bytes, write_text
from core.checkpoint.format import read_meta
from core.checkpoint.locate import CHECKPOINTS
from core.config import snapshot
from core.config.diff import diff_lines
from core.contracts import Artifact, ProbeFindings, ProbeSuite, ProbingTask, RunInfo, SamplingData
from core.dist.ranks import pick_device
from core.errors import ConfigError, DataError, RunDirError, SoriError
from core.inference import Loaded, load_task
from core.registry import lookup
from core.rundir import RunDir
from core.runlock import RunLock
from core.track.fanout import Fanout
from core.track.png import encode_png

ROWS, SEEDS = 6000, 3
_SHOWN = 10
_EVERY = 5.0


def probe(options: argparse.Namespace, keep: Callable[[str], None]) -> int:
    """Probe the run that the arguments name; print, write and track what is found.

    Args:
        options: of the command line.
        keep: is given the findings as JSON.

    Raises:
        SoriError: the task offers no probes, or there is too little to probe.
    """
    started = time.monotonic()
    seeds = list(range(_number(options, "seeds", default=SEEDS, least=SEEDS)))
    rows = _number(options, "rows", default=ROWS, least=1)
    loaded = load_task(options.run, weights=options.weights, overrides=options.set)
    task, data = _probing(loaded, options.run)
    sources = options.source or list(loaded.data.test_splits)
    if not sources:
        raise ConfigError(f"{options.run} names no test split; give a source, such as demo:probe")
    twin = load_task(options.twin, weights=options.weights) if options.twin is not None else None
    suite = task.probes(twin.task if twin is not None else None)
    place = pick_device(options.device, 0)
    for each in (loaded, twin):
        if each is not None:
            each.task.to(place).eval()
    print(f"weights {loaded.checkpoint}")
    about = _about(loaded, sources, rows, options.set)
    if twin is not None:
        about |= _beside(loaded, twin)
    for source in sources:
        _collect(suite, data, source, rows=rows, device=place)
    print(f"training probes, {len(seeds)} seeds each", file=sys.stderr)
    findings = suite.findings(names=_names(loaded, twin), seeds=seeds)
    print("\n" + "\n".join(findings.lines))
    figures = _plain({**about, "seeds": seeds, **findings.figures, "metrics": findings.metrics})
    text = json.dumps(figures, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    keep(text)
    run = _run_of(loaded.checkpoint)
    if run is None:
        print(f"{loaded.checkpoint} is in no run directory: nothing was written", file=sys.stderr)
    else:
        _write(run, loaded, findings, text)
        _track(run, loaded, findings)
    print(f"probed in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _number(options: argparse.Namespace, name: str, *, default: int, least: int) -> int:
    given: int | None = getattr(options, name)
    if given is not None and given < least:
        raise ConfigError(f"--{name} {given}: probes need {least} at least")
    return default if given is None else given


def _probing(loaded: Loaded, target: Path) -> tuple[ProbingTask, SamplingData]:
    if not isinstance(loaded.task, ProbingTask):
        name = type(loaded.task).__name__
        raise ConfigError(f"{target} holds a {name}, which offers no probes; what does: {_able()}")
    if not isinstance(loaded.data, SamplingData):
        name = type(loaded.data).__name__
        raise ConfigError(f"{target}: {name} cannot choose utterances for probes")
    return loaded.task, loaded.data


def _able() -> str:
    """Name the registered tasks that offer probes."""
    found = []
    for name in catalog.index().names("task"):
        try:
            made = lookup("task", name)
        except (SoriError, ImportError):
            continue
        if hasattr(made, "probes"):
            found.append(f"task/{name}")
    return ", ".join(found) or "no registered task"


def _about(loaded: Loaded, sources: list[str], rows: int, overrides: list[str]) -> dict[str, Any]:
    meta = read_meta(loaded.checkpoint)
    return {
        "checkpoint": str(loaded.checkpoint),
        "step": int(meta["step"]),
        "epoch": int(meta.get("epoch", 0)),
        "sources": sources,
        "rows": rows,
        "overrides": overrides,
    }


def _beside(loaded: Loaded, twin: Loaded) -> dict[str, Any]:
    """Say what the twin is, and what its configuration has that the run's has not."""
    print(f"twin    {twin.checkpoint}")
    before, after = snapshot.load(twin.checkpoint), snapshot.load(loaded.checkpoint)
    before.trackers = after.trackers = []  # Where a run is shown changes nothing in it.
    lines = diff_lines(before, after)
    if lines:
        print("from the twin to the run:")
    for line in lines[:_SHOWN]:
        print(f"  {line}")
    if len(lines) > _SHOWN:
        print(f"  and {len(lines) - _SHOWN} more")
    steps = [int(read_meta(each.checkpoint)["step"]) for each in (loaded, twin)]
    if steps[0] != steps[1]:
        print(f"the run is at step {steps[0]:,} and its twin at step {steps[1]:,}")
    return {"twin_checkpoint": str(twin.checkpoint), "twin_step": steps[1], "differs": lines}


def _collect(
    suite: ProbeSuite, data: SamplingData, source: str, *, rows: int, device: torch.device
) -> None:
    """Hand the utterances of a source to the suite, and show how far it is."""
    sample = data.sample_utterances(source, limit=rows, seed=0)
    for note in sample.notes:
        print(note)
    used, skipped = 0, Counter[str]()
    said = time.monotonic()
    for batch in sample.batches:
        for item in batch.skipped:
            skipped[item.reason] += 1
            if skipped.total() <= _SHOWN:
                print(f"skipped {item.id}: {item.reason}: {item.detail}", file=sys.stderr)
        if len(batch):
            suite.add(batch.to(device))
            used += len(batch)
        if time.monotonic() - said > _EVERY:
            said = time.monotonic()
            print(f"{source}: {used:,} of {sample.count:,} utterances", file=sys.stderr)
    if skipped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in skipped.most_common())
        print(f"{source}: {skipped.total():,} of {sample.count:,} skipped: {reasons}")
    if not used:
        raise DataError(f"{source}: no utterance could be used; {skipped.total()} were skipped")


def _run_of(checkpoint: Path) -> Path | None:
    """Return the run directory that a checkpoint lies in."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == CHECKPOINTS else None


def _names(loaded: Loaded, twin: Loaded | None) -> list[str]:
    named = [
        (_run_of(each.checkpoint) or each.checkpoint).name
        for each in (loaded, twin)
        if each is not None
    ]
    if len(set(named)) < len(named):
        named[1] += " (twin)"
    return named


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return JSON's form: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write(run: Path, loaded: Loaded, findings: ProbeFindings, text: str) -> None:
    """Write ``probes/step_N.json``, ``.txt`` and ``.png`` in the run directory."""
    folder = RunDir.open(run).probes
    stem = folder / f"step_{int(read_meta(loaded.checkpoint)['step']):08d}"
    try:
        folder.mkdir(exist_ok=True)
        write_text(stem.with_suffix(".json"), text)
        write_text(stem.with_suffix(".txt"), "\n".join(findings.lines).rstrip("\n") + "\n")
        if findings.image is not None:
            write_bytes(stem.with_suffix(".png"), encode_png(findings.image))
    except OSError as error:
        raise RunDirError(f"cannot write {stem}: {error.strerror or error}") from error
    print(f"written to {stem}.json, .txt and .png")


def _track(run: Path, loaded: Loaded, findings: ProbeFindings) -> None:
    """Add the findings to what the run's trackers have, at the step of the checkpoint.

    ``metrics.jsonl`` stays as it is: it is cut back on resume, and what probes found is in files of
    its own by step. A tracker has one writer, so a run that is being trained is left alone.
    """
    trackers = loaded.experiment.trackers
    if not trackers:
        return
    try:
        status = RunDir.open(run).status()
        lock = RunLock(run / RunDir.LOCK)
    except (RunDirError, OSError) as error:
        print(f"not tracked: {error}; core.inspect sync does it later", file=sys.stderr)
        return
    meta = read_meta(loaded.checkpoint)
    step, epoch = int(meta["step"]), int(meta.get("epoch", 0))
    failed: list[str] = []
    sinks = Fanout(trackers, say=failed.append)
    with closing(lock):
        info = RunInfo(
            directory=run,
            name=loaded.experiment.name,
            hparams={},
            resumed_step=int(status.get("step", step)),
        )
        sinks.start(info)
        sinks.metrics(findings.metrics, step=step, epoch=epoch)
        if findings.image is not None:
            caption = f"step {step}"
            picture = Artifact(name="probes", kind="image", value=findings.image, caption=caption)
            sinks.artifacts([picture], step=step)
        sinks.finish(str(status.get("status", "finished")))
    for line in failed:
        print(line, file=sys.stderr)
    if not failed:
        print(f"tracked at step {step:,}: {', '.join(type(each).__name__ for each in trackers)}")
