from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from core.checkpoint.format import META, MODEL, STATE, read_meta, read_state
from core.checkpoint.store import CheckpointStore
from core.errors import CheckpointError


def save(store: CheckpointStore, step: int, loss: float | None = None, epoch: int = 0) -> Path:
    metrics = {} if loss is None else {store.monitor: loss}
    return store.save(
        step=step,
        epoch=epoch,
        metrics=metrics,
        model={"weight": torch.full((64,), float(step))},
        state={"step": step},
    )


def steps(store: CheckpointStore) -> list[int]:
    return sorted(read_meta(path)["step"] for path in store.directory.glob("step_*"))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def test_names_carry_step_epoch_and_metric(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)

    assert store.name(12000, 3, {"val/loss": 0.41234}) == "step_00012000-epoch03-val0.4123"
    assert store.name(12000, 3, {"train/loss": 0.4}) == "step_00012000-epoch03"
    assert save(store, 5, 0.5, epoch=1).name == "step_00000005-epoch01-val0.5000"


def test_the_last_the_best_and_every_mth_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2, keep_best=2, keep_every=40)
    losses = [0.9, 0.1, 0.5, 0.6, 0.2, 0.7, 0.8, 0.9, 0.95]

    for index, loss in enumerate(losses, 1):
        save(store, index * 10, loss)

    assert steps(store) == [20, 40, 50, 80, 90]
    assert (tmp_path / "LATEST").read_text() == "step_00000090-epoch00-val0.9500\n"
    assert (tmp_path / "BEST").read_text() == "step_00000020-epoch00-val0.1000\n"
    assert store.latest(pytest.fail) == tmp_path / "step_00000090-epoch00-val0.9500"
    assert store.best(pytest.fail) == tmp_path / "step_00000020-epoch00-val0.1000"


def test_higher_is_better_and_non_finite_is_never_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=1, monitor="val/accuracy", mode="max")

    for step, accuracy in ((1, 0.2), (2, float("inf")), (3, 0.8), (4, float("nan")), (5, 0.8)):
        save(store, step, accuracy)

    assert steps(store) == [3, 5]
    assert store.best() == tmp_path / "step_00000003-epoch00-val0.8000"


def test_without_the_metric_there_is_no_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=1)
    save(store, 1)
    save(store, 2)

    assert steps(store) == [2]
    assert store.best() is None


def test_keep_best_of_zero_marks_none(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=0)
    save(store, 1, 0.1)
    save(store, 2, 0.9)

    assert steps(store) == [2]
    assert store.best() is None


def test_an_early_checkpoint_is_not_the_best_however_low_its_loss(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2, best_from=30)
    save(store, 10, 0.1)
    save(store, 20, 0.2)
    assert store.best() is None

    for step, loss in ((30, 0.5), (40, 0.4), (50, 0.6), (60, 0.7)):
        save(store, step, loss)

    assert steps(store) == [40, 50, 60]
    assert store.best() == tmp_path / "step_00000040-epoch00-val0.4000"


def test_who_asks_for_the_best_need_not_know_from_where_it_counts(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=9, best_from=30)
    for step, loss in ((10, 0.1), (30, 0.5), (40, 0.4)):
        save(store, step, loss)
    flip(tmp_path / "step_00000040-epoch00-val0.4000" / "model.safetensors")

    assert CheckpointStore(tmp_path).best([].append) == tmp_path / "step_00000030-epoch00-val0.5000"


def test_a_mark_from_before_the_first_candidate_is_taken_back(tmp_path: Path) -> None:
    save(CheckpointStore(tmp_path), 10, 0.1)
    later = CheckpointStore(tmp_path, best_from=30)
    save(later, 20, 0.2)
    assert later.best() is None
    save(later, 30, 0.3)
    assert later.best() == tmp_path / "step_00000030-epoch00-val0.3000"
    save(later, 40)
    assert later.best() == tmp_path / "step_00000030-epoch00-val0.3000"


def test_best_knows_its_metric_whoever_asks(tmp_path: Path) -> None:
    writer = CheckpointStore(tmp_path, keep_best=2, monitor="val/wer", mode="max")
    for step, value in ((1, 0.5), (2, 0.9), (3, 0.7)):
        save(writer, step, value)
    said: list[str] = []
    reader = CheckpointStore(tmp_path)
    assert reader.best(said.append) == tmp_path / "step_00000002-epoch00-val0.9000"

    flip(tmp_path / "step_00000002-epoch00-val0.9000" / MODEL)

    assert reader.best(said.append) == tmp_path / "step_00000003-epoch00-val0.7000"
    assert len(said) == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: flip(path / MODEL), "model.safetensors was altered"),
        (lambda path: flip(path / STATE), "state.pt was altered"),
        (lambda path: os.truncate(path / STATE, 10), "state.pt is truncated"),
        (lambda path: (path / MODEL).unlink(), "model.safetensors is missing"),
        (lambda path: (path / META).unlink(), "meta.json is missing (half-written)"),
        (lambda path: os.truncate(path / META, 30), "meta.json is damaged"),
    ],
)
def test_a_damaged_newest_one_is_skipped_and_said(
    tmp_path: Path, damage: object, reason: str
) -> None:
    store = CheckpointStore(tmp_path)
    older = save(store, 10)
    newest = save(store, 20)
    damage(newest)  # type: ignore[operator]
    said: list[str] = []

    assert store.latest(said.append) == older
    assert said == [line for line in said if newest.name in line and reason in line]
    assert said[0].endswith(f"taking {older.name}")
    assert len(said) == 1

    save(store, 20)
    found = store.latest(pytest.fail)
    assert found is not None
    assert read_state(found)["step"] == 20


def test_when_all_are_damaged_it_is_said(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        flip(save(store, step) / MODEL)
    said: list[str] = []

    assert store.latest(said.append) is None
    assert len(said) == 2
    assert all(line.endswith("no complete checkpoint is left") for line in said)


def test_newest_is_decided_by_step_not_by_file_time(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    first, second = save(store, 9), save(store, 10)
    os.utime(first, (4e9, 4e9))

    assert store.latest() == second


def test_an_empty_or_missing_directory_has_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "nowhere").latest(pytest.fail) is None
    assert CheckpointStore(tmp_path).best(pytest.fail) is None


def test_a_second_save_of_a_step_takes_the_place_of_the_first(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 10)
    save(store, 10, 0.5)

    assert [path.name for path in tmp_path.glob("step_*")] == ["step_00000010-epoch00-val0.5000"]


def test_damaged_ones_do_not_count_as_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2)
    save(store, 10)
    (save(store, 20) / MODEL).unlink()
    save(store, 30)

    assert sorted(path.name[:13] for path in tmp_path.glob("step_*")) == [
        "step_00000010",
        "step_00000020",
        "step_00000030",
    ]


def test_killed_before_marking_the_store_is_usable(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=1)
    save(store, 10, 0.5)
    other = tmp_path / "elsewhere"
    published = save(CheckpointStore(other), 20, 0.6)
    shutil.move(published, tmp_path / published.name)  # published, neither marked nor retained
    shutil.rmtree(other)

    found = store.latest(pytest.fail)
    assert found is not None
    assert found.name == published.name
    save(store, 30, 0.7)
    assert steps(store) == [10, 30]


def test_clean_says_what_it_removed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    kept = save(store, 1)
    (tmp_path / ".tmp-step_00000002-abcd").mkdir()
    said: list[str] = []

    store.clean(said.append)
    store.clean(pytest.fail)

    assert len(said) == 1
    assert ".tmp-step_00000002-abcd" in said[0]
    assert store.latest() == kept


def test_a_policy_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="keep_last=0"):
        CheckpointStore(tmp_path, keep_last=0)
