"""A process that saves checkpoints until it is killed; prints a line when it starts and ends one.

Usage: python -m tests.core.checkpoint.writer DIRECTORY TRIALS SEED: forks one writer for each
trial, kills it with SIGKILL at a random moment, and prints what can be loaded afterwards, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from core.checkpoint.format import read_model, read_optimizer, read_state
from core.checkpoint.store import CheckpointStore


def write_forever(directory: Path, done: int) -> None:
    store = CheckpointStore(directory, keep_last=2)
    store.clean(lambda text: None)
    step = newest_step(directory)
    while True:
        step += 1
        weights = {f"layer{i}.weight": torch.full((64, 256), float(step)) for i in range(8)}
        store.save(
            step=step,
            epoch=0,
            metrics={"val/loss": 1.0 / step},
            model=weights,
            optimizer={"state": {0: {"exp_avg": torch.full((256, 256), float(step))}}},
            state={"step": step},
        )
        os.write(done, f"{step}\n".encode())


def newest_step(directory: Path) -> int:
    found = CheckpointStore(directory).latest(lambda text: None)
    return 0 if found is None else int(read_state(found)["step"])


def trial(directory: Path, delay: float) -> dict[str, object]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            write_forever(directory, write)
        finally:
            os._exit(1)
    os.close(write)
    reported = os.read(read, 16)  # the first save is complete
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read, "rb") as rest:
        steps = (reported + rest.read()).split()
    said: list[str] = []
    found = CheckpointStore(directory).latest(said.append)
    assert found is not None
    values = {float(v.unique().item()) for v in read_model(found).values()}
    values |= {float(read_optimizer(found)["state"][0]["exp_avg"].unique().item())}
    return {
        "killed": os.WTERMSIG(status),
        "completed": int(steps[-1]),
        "loaded": int(read_state(found)["step"]),
        "values": sorted(values),
        "said": said,
        "left": sorted(p.name for p in directory.glob(".*")),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, trials, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    print(json.dumps([trial(where, draw.uniform(0.0, 0.2)) for _ in range(trials)]))
