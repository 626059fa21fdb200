from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from core.contracts import RunInfo
from core.errors import RunDirError
from core.track.jsonl import JsonlTracker, read_metrics, truncate_after


def track(directory: Path, steps: range, *, resumed: int = 0) -> None:
    tracker = JsonlTracker()
    tracker.start(RunInfo(directory=directory, name="run", hparams={}, resumed_step=resumed))
    for step in steps:
        tracker.metrics({"train/loss": 1 / step}, step=step, epoch=step // 5)
    tracker.finish("finished")


def without_time(path: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def test_floats_read_back_exactly(tmp_path: Path) -> None:
    draw = random.Random(0)
    values = {f"v/{i}": draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300) for i in range(200)}
    tracker = JsonlTracker()
    tracker.start(RunInfo(directory=tmp_path, name="run", hparams={}))
    tracker.metrics(values, step=3, epoch=1)
    tracker.metrics({"a/nan": math.nan, "a/inf": math.inf, "a/low": -math.inf}, step=4, epoch=1)

    # Not finished: each line is on its way to disk when the call returns.
    first, second = read_metrics(tmp_path / "metrics.jsonl")

    assert first[:2] == (3, 1)
    assert first[3] == values
    assert math.isnan(second[3]["a/nan"])
    assert (second[3]["a/inf"], second[3]["a/low"]) == (math.inf, -math.inf)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    tracker.finish("finished")


def test_a_resumed_run_leaves_the_file_of_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    track(tmp_path / "whole", range(1, 21))
    track(tmp_path / "killed", range(1, 14))
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "epo')  # torn by the kill; the checkpoint was made at step 10

    track(tmp_path / "killed", range(11, 21), resumed=10)

    killed = without_time(tmp_path / "killed" / "metrics.jsonl")
    assert killed == without_time(tmp_path / "whole" / "metrics.jsonl")


def test_a_torn_line_is_repaired_even_where_nothing_else_is_cut(tmp_path: Path) -> None:
    track(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert [step for step, *_ in read_metrics(path)] == [1, 2, 3]

    truncate_after(path, 3)

    assert path.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_fresh_run_in_an_old_directory_starts_the_file_anew(tmp_path: Path) -> None:
    track(tmp_path, range(1, 9))
    track(tmp_path, range(1, 3))

    assert [step for step, *_ in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_damaged_line_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    track(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "garbage\n", lines[2]]))

    with pytest.raises(RunDirError, match=r"metrics\.jsonl:2: not a line of metrics"):
        list(read_metrics(path))
    truncate_after(path, 3)
    assert path.read_text() == lines[0] + lines[2]
    assert "metrics.jsonl:2 is damaged and was dropped" in caplog.text


def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    tracker = JsonlTracker()

    with pytest.raises(RunDirError, match="cannot write"):
        tracker.start(RunInfo(directory=tmp_path / "missing", name="run", hparams={}))
    with pytest.raises(RunDirError, match="cannot read"):
        list(read_metrics(tmp_path / "metrics.jsonl"))
