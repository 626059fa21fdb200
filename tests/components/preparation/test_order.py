from __future__ import annotations

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.preparation.mel_folder import shard
from components.preparation.order import SIDECAR, Order
from core.data.pairs_index import TARGET_MEL, open_pairs
from core.errors import DataError
from tests.fixtures.pair_files import edit_row, read_rows, write_mel, write_pairs

ROWS = 40


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, ROWS)


def order(manifest: Path, **options: Any) -> list[str]:
    said: list[str] = []
    Order(manifest=manifest, **options)(said.append)
    return said


def targets(path: Path) -> list[int]:
    return [int(row["target_id"][1:]) for row in read_rows(path)]


def make(manifest: Path, *numbers: int) -> None:
    for number in numbers:
        write_mel(manifest.parent, f"T{number}")


def test_the_first_time_is_a_stable_partition(manifest: Path) -> None:
    before = read_rows(manifest)
    make(manifest, 30, 3, 17)
    said = order(manifest)
    assert targets(manifest) == [3, 17, 30, *(n for n in range(ROWS) if n not in (3, 17, 30))]
    rows = {row["id"]: row for row in read_rows(manifest)}
    for row in before:
        path = rows[row["id"]].pop("target_mel_path", None)
        assert rows[row["id"]] == row
        assert path == (
            f"mel/{row['target_id']}.npy" if row["target_id"] in {"T3", "T17", "T30"} else None
        )
    assert "40 rows, compared before and after" in said[0]
    assert "in front, with mel: 3 (0 as before, 3 new)" in said[1]
    assert open_pairs(manifest).prefix(TARGET_MEL) == 3


def test_new_mel_is_appended_and_nothing_in_front_moves(manifest: Path) -> None:
    make(manifest, 30, 3, 17)
    order(manifest)
    size = json.loads((manifest.parent / (manifest.name + SIDECAR)).read_text())["bytes"]
    front = manifest.read_bytes()[:size]
    make(manifest, 0, 39, 16)
    said = order(manifest)
    assert targets(manifest)[:6] == [3, 17, 30, 0, 16, 39]
    assert manifest.read_bytes().startswith(front)
    assert sorted(targets(manifest)) == list(range(ROWS))
    assert "(3 as before, 3 new)" in said[1]
    once = manifest.read_bytes()
    order(manifest)
    assert manifest.read_bytes() == once


def test_growing_step_by_step_keeps_every_prefix(manifest: Path) -> None:
    rng = np.random.default_rng(0)
    fronts: list[list[int]] = []
    for batch in np.array_split(rng.permutation(ROWS), 8):
        make(manifest, *batch.tolist())
        order(manifest)
        fronts.append(targets(manifest)[: open_pairs(manifest).prefix(TARGET_MEL)])
    for shorter, longer in pairwise(fronts):
        assert longer[: len(shorter)] == shorter
    assert len(fronts[-1]) == ROWS


def test_the_sidecar_describes_the_front(manifest: Path) -> None:
    make(manifest, 5, 6)
    order(manifest)
    found = json.loads((manifest.parent / (manifest.name + SIDECAR)).read_text())
    front = manifest.read_bytes()[: found["bytes"]]
    assert front.count(b"\n") == found["rows"] == 2
    assert hashlib.sha256(front).hexdigest() == found["sha256"]
    assert (found["mel"], found["total_rows"], found["side"]) == ("mel", ROWS, "target")


def test_mel_that_vanished_is_refused_or_moved_by_choice(manifest: Path) -> None:
    make(manifest, 3, 17, 30)
    order(manifest)
    before = manifest.read_bytes()
    (manifest.parent / "mel/T17.npy").unlink()
    make(manifest, 20)
    with pytest.raises(DataError, match="1 rows in front have lost their mel: rows 2"):
        order(manifest)
    assert manifest.read_bytes() == before
    said = order(manifest, rebase=True)
    assert targets(manifest)[:5] == [3, 30, 20, 17, 0]
    assert "target_mel_path" not in read_rows(manifest)[3]
    assert "for their mel is gone: 1" in said[2]
    order(manifest)


def test_vanished_mel_is_found_without_the_sidecar_too(manifest: Path) -> None:
    make(manifest, 3, 17)
    order(manifest)
    (manifest.parent / (manifest.name + SIDECAR)).unlink()
    order(manifest)
    (manifest.parent / (manifest.name + SIDECAR)).unlink()
    (manifest.parent / "mel/T3.npy").unlink()
    with pytest.raises(DataError, match="rows 1"):
        order(manifest)


def test_rows_in_front_that_were_edited_are_refused(manifest: Path) -> None:
    make(manifest, 3, 17)
    order(manifest)
    edit_row(manifest, 1, target_text="else")
    with pytest.raises(DataError, match="the first 2 rows are not those"):
        order(manifest)
    order(manifest, rebase=True)
    order(manifest)


def test_a_death_between_manifest_and_sidecar_does_no_harm(manifest: Path) -> None:
    sidecar = manifest.parent / (manifest.name + SIDECAR)
    make(manifest, 3, 17)
    order(manifest)
    old = sidecar.read_bytes()
    make(manifest, 1, 2)
    order(manifest)
    whole, new = manifest.read_bytes(), sidecar.read_bytes()
    sidecar.write_bytes(old)
    order(manifest)
    assert manifest.read_bytes() == whole
    assert sidecar.read_bytes() == new


def test_another_output_leaves_the_manifest_alone_and_is_ordered_in_place_later(
    manifest: Path,
) -> None:
    before = manifest.read_bytes()
    make(manifest, 9)
    output = manifest.parent / "sub" / "ordered.jsonl"
    output.parent.mkdir()
    order(manifest, output=output)
    assert manifest.read_bytes() == before
    assert read_rows(output)[0]["target_mel_path"] == "../mel/T9.npy"
    with pytest.raises(DataError, match="exists; bring new mel to its front"):
        order(manifest, output=output)
    make(manifest, 8)
    order(output, mel=manifest.parent / "mel")
    assert targets(output)[:2] == [9, 8]


def test_files_of_another_size_do_not_count(manifest: Path) -> None:
    make(manifest, 1, 2, 3)
    os.truncate(manifest.parent / "mel/T2.npy", 700)
    (manifest.parent / "mel/T3.npy").write_bytes(b"")
    (manifest.parent / "mel/.tmp-T4.npy-123").write_bytes(b"x" * (128 + 320))
    np.save(manifest.parent / "mel/T5.npy", np.zeros((7, 80), dtype=np.float16))
    said = order(manifest)
    assert targets(manifest)[:3] == [1, 5, 0]
    assert "2 mels, 2 of a wrong size left out" in said[-1]


def test_mel_in_shards_is_found(manifest: Path) -> None:
    make(manifest, 4, 7)
    folder = manifest.parent / "mel" / shard(b"T7")
    folder.mkdir()
    (manifest.parent / "mel/T7.npy").rename(folder / "T7.npy")
    order(manifest)
    assert [row.get("target_mel_path") for row in read_rows(manifest)[:3]] == [
        "mel/T4.npy",
        f"mel/{shard(b'T7')}/T7.npy",
        None,
    ]


def test_both_sides_need_both_mels(manifest: Path) -> None:
    make(manifest, 4, 7)
    write_mel(manifest.parent, "P7")
    write_mel(manifest.parent, "P9")
    order(manifest, side="both")
    rows = read_rows(manifest)
    assert rows[0]["target_mel_path"] == "mel/T7.npy"
    assert rows[0]["prompt_mel_path"] == "mel/P7.npy"
    assert not any("mel_path" in key for row in rows[1:] for key in row)
    with pytest.raises(DataError, match="ordered by the both mels"):
        order(manifest)


@pytest.mark.parametrize("ascii_", [False, True])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,  ", "  :  ")])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_rows_are_understood_however_they_are_written(
    tmp_path: Path, ascii_: bool, separators: tuple[str, str], end: str
) -> None:
    texts = ['a "target_id": "T9" b', "target_id", "target_mel_path", '\\", "target_mel_path": "x']
    rows: list[dict[str, Any]] = [
        {"target_text": text, "id": f"{n}", "target_id": name, "target_mel_path": old}
        for n, (text, name, old) in enumerate(
            zip(
                texts,
                ["한글", 'quo"te', "back\\slash", "plain"],
                [None, "x", "y", "z"],
                strict=True,
            )
        )
    ]
    rows[1] = {key: rows[1][key] for key in ("target_mel_path", "target_id", "id", "target_text")}
    del rows[2]["target_mel_path"]
    lines = [json.dumps(row, ensure_ascii=ascii_, separators=separators) for row in rows]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(((end or "\n").join(lines) + end).encode())
    (tmp_path / "mel").mkdir()
    for name in ("한글", 'quo"te', "back\\slash"):
        np.save(tmp_path / f"mel/{name}.npy", np.zeros((2, 80), dtype=np.float32))
    order(path, rebase=True)
    for row in rows:
        row.pop("target_mel_path", None)
    wanted = [
        row | {"target_mel_path": f"mel/{row['target_id']}.npy"} if place < 3 else row
        for place, row in enumerate(rows)
    ]
    found = read_rows(path)
    assert {row["id"]: row for row in found} == {row["id"]: row for row in wanted}
    assert found[-1]["id"] == "3"


def test_a_row_without_an_id_is_named_and_nothing_is_written(manifest: Path) -> None:
    make(manifest, 1)
    edit_row(manifest, 5, target_id=None)
    before = sorted(os.listdir(manifest.parent)), manifest.read_bytes()
    with pytest.raises(DataError, match=r"pairs\.jsonl:6: target_id is None"):
        order(manifest)
    assert (sorted(os.listdir(manifest.parent)), manifest.read_bytes()) == before


def test_no_mel_folder_says_what_to_run(manifest: Path) -> None:
    with pytest.raises(DataError, match=r"mel not found: .* core\.prepare mel"):
        order(manifest)


def test_rows_that_change_while_they_are_ordered_are_not_lost(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.preparation import order as module

    make(manifest, 1)
    copy = module.copy_rows

    def disturbed(rows: Any, chosen: Any, file: Any, **options: Any) -> None:
        edit_row(manifest, 20, target_text="글 xx"[: len("글 20")])
        copy(rows, chosen, file, **options)

    monkeypatch.setattr(module, "copy_rows", disturbed)
    with pytest.raises(DataError, match="Nothing was replaced"):
        order(manifest)
    assert not [name for name in os.listdir(manifest.parent) if name.startswith(".tmp")]
