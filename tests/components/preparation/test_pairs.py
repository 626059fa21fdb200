from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.preparation.pairs import Pairs, draw_prompts
from core.data.pairs_index import check_pair
from core.errors import DataError
from tests.fixtures.pair_files import read_rows

SPEAKERS = {"a": 6, "b": 3, "c": 2, "alone": 1}


def utterance(name: str, speaker: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "audio_path": f"audio/{name}.wav",
        "text": f"글 {name}",
        "speaker": speaker,
        "language": "ko",
        "duration": 1.25,
        "text_ids_path": f"text/{name}.npy",
        "text_len": 5,
        "codes_path": f"codes/{name}.npy",
        "code_len": 40,
        "condition_path": f"cond/{name}.npy",
        "condition_len": 32,
        "emo_vec_path": f"emo/{name}.npy",
    } | changes


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = [utterance(f"{s}{n}", s) for n in range(6) for s, count in SPEAKERS.items() if n < count]
    return write(tmp_path / "utterances.jsonl", rows)


def pairs(manifest: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    Pairs(manifest=manifest, output=output, **options)(lambda text: None)
    return read_rows(output)


def test_each_target_gets_other_prompts_of_its_speaker(manifest: Path, tmp_path: Path) -> None:
    rows = pairs(manifest, tmp_path / "pairs.jsonl")
    assert len(rows) == 6 * 2 + 3 * 2 + 2 * 1
    prompts: dict[str, list[str]] = {}
    for row in rows:
        check_pair(row)
        assert row["id"] == f"{row['target_id']}__{row['prompt_id']}"
        assert row["prompt_id"][0] == row["target_id"][0] == row["speaker"]
        prompts.setdefault(row["target_id"], []).append(row["prompt_id"])
    for target, drawn in prompts.items():
        assert target not in drawn
        assert len(set(drawn)) == len(drawn)
    order = [row["id"] for row in read_rows(manifest) if row["speaker"] != "alone"]
    assert list(prompts) == order, "targets keep the order of the manifest"


def test_a_pair_has_the_fields_of_both_utterances(manifest: Path, tmp_path: Path) -> None:
    row = pairs(manifest, tmp_path / "pairs.jsonl")[0]
    prompt = row["prompt_id"]
    assert row == {
        "id": f"a0__{prompt}",
        "speaker": "a",
        "prompt_id": prompt,
        "prompt_audio_path": f"audio/{prompt}.wav",
        "prompt_emo_vec_path": f"emo/{prompt}.npy",
        "prompt_language": "ko",
        "prompt_condition_path": f"cond/{prompt}.npy",
        "prompt_condition_len": 32,
        "prompt_duration": 1.25,
        "target_id": "a0",
        "target_audio_path": "audio/a0.wav",
        "target_emo_vec_path": "emo/a0.npy",
        "target_language": "ko",
        "target_text": "글 a0",
        "target_text_ids_path": "text/a0.npy",
        "target_text_len": 5,
        "target_codes_path": "codes/a0.npy",
        "target_code_len": 40,
    }


def test_the_seed_decides(manifest: Path, tmp_path: Path) -> None:
    first = pairs(manifest, tmp_path / "1.jsonl")
    assert pairs(manifest, tmp_path / "2.jsonl") == first
    assert pairs(manifest, tmp_path / "3.jsonl", seed=7) != first


def test_short_utterances_are_neither_target_nor_prompt(tmp_path: Path) -> None:
    rows = [utterance(f"a{n}", "a", text_len=n, code_len=100 - n) for n in range(10)]
    manifest = write(tmp_path / "u.jsonl", rows)
    output = tmp_path / "pairs.jsonl"
    found = pairs(manifest, output, min_text_len=3, min_code_len=94)
    used = {row["target_id"] for row in found} | {row["prompt_id"] for row in found}
    assert used == {"a3", "a4", "a5", "a6"}
    report = json.loads(output.with_suffix(".report.json").read_text())
    assert (report["utterances"], report["too_short"], report["targets"]) == (10, 6, 4)


def test_a_limit_draws_from_all_pairs(manifest: Path, tmp_path: Path) -> None:
    whole = [row["id"] for row in pairs(manifest, tmp_path / "1.jsonl")]
    output = tmp_path / "2.jsonl"
    some = [row["id"] for row in pairs(manifest, output, max_pairs=7)]
    assert len(some) == 7
    assert [name for name in whole if name in set(some)] == some
    report = json.loads(output.with_suffix(".report.json").read_text())
    assert report["pairs"] == 7
    assert report["pairs_over_the_limit"] == 13
    assert report["speakers_with_one_utterance"] == 1


def test_paths_are_adapted_to_another_folder(manifest: Path, tmp_path: Path) -> None:
    row = pairs(manifest, tmp_path / "deep" / "er" / "pairs.jsonl")[0]
    assert row["target_codes_path"] == "../../codes/a0.npy"
    manifest.write_text(manifest.read_text().replace('"text/', f'"{tmp_path}/text/'))
    row = pairs(manifest, tmp_path / "deep" / "pairs.jsonl")[0]
    assert row["target_text_ids_path"] == f"{tmp_path}/text/a0.npy"


def test_an_output_is_replaced_only_by_force(manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    pairs(manifest, output)
    with pytest.raises(DataError, match="--force replaces it"):
        pairs(manifest, output)
    assert len(pairs(manifest, output, force=True, pairs_per_target=1)) == 11


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes_path": ""}, "codes_path is ''"),
        ({"text_len": "5"}, "text_len is '5'"),
        ({"prompt_id": "x"}, "a pair already"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    rows = [utterance("a0", "a"), utterance("a1", "a", **changes)]
    manifest = write(tmp_path / "u.jsonl", rows)
    with pytest.raises(DataError, match="1 bad line of 2") as caught:
        pairs(manifest, tmp_path / "pairs.jsonl")
    assert f"{manifest}:2: {message}" in str(caught.value)
    assert not (tmp_path / "pairs.jsonl").exists()


def test_no_pairs_are_refused_with_the_counts(tmp_path: Path) -> None:
    manifest = write(tmp_path / "u.jsonl", [utterance("a0", "a"), utterance("b0", "b")])
    with pytest.raises(DataError, match=r'no speaker has two utterances.*"speakers": 2'):
        pairs(manifest, tmp_path / "pairs.jsonl")


@pytest.mark.parametrize("per_target", [1, 2, 3, 5])
def test_every_choice_of_prompts_is_equally_likely(per_target: int) -> None:
    speakers = np.array([0] * 4 + [1] * 2 + [2])
    rng = np.random.default_rng(0)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(3000):
        targets, prompts = draw_prompts(speakers, per_target, rng)
        assert np.all(speakers[targets] == speakers[prompts])
        assert np.all(targets != prompts)
        assert np.all(np.diff(targets) >= 0)
        counts = np.bincount(targets, minlength=7)
        assert counts.tolist() == [min(3, per_target)] * 4 + [1, 1, 0]
        seen[tuple(sorted(prompts[targets == 1].tolist()))] += 1
    possible = {1: 3, 2: 3, 3: 1, 5: 1}[per_target]
    assert len(seen) == possible
    assert min(seen.values()) > 0.85 * 3000 / possible


def test_a_repeated_id_is_left_out_and_its_lines_are_named(tmp_path: Path) -> None:
    rows = [utterance(f"a{n}", "a", text_len=n) for n in range(4)]
    rows += [utterance("a0", "a"), utterance("a2", "b"), utterance("a3", "a"), utterance("b0", "b")]
    manifest = write(tmp_path / "u.jsonl", rows)
    said: list[str] = []
    Pairs(manifest=manifest, output=tmp_path / "pairs.jsonl")(said.append)
    found = read_rows(tmp_path / "pairs.jsonl")
    assert all(row["prompt_id"] != row["target_id"] for row in found)
    assert len({row["id"] for row in found}) == len(found) == 4 * 2
    places = [row["target_id"] for row in found[::2]]
    assert places == ["a1", "a2", "a3", "a0"], "an utterance too short has no claim to its id"
    assert f"  left out, repeated id: 2, such as {manifest}:6: the id is that of line 3" in said
    report = json.loads((tmp_path / "pairs.report.json").read_text())
    assert (report["too_short"], report["repeated_ids"]) == (1, 2)
    assert report["repeated_lines"][1] == f"{manifest}:7: the id is that of line 4"
    assert report["speakers_with_one_utterance"] == 1


def test_a_list_written_twice_gives_the_pairs_of_one(manifest: Path, tmp_path: Path) -> None:
    wanted = pairs(manifest, tmp_path / "1.jsonl")
    manifest.write_text(2 * manifest.read_text())
    assert pairs(manifest, tmp_path / "2.jsonl") == wanted


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["utterances.jsonl", "link.jsonl", "link/utterances.jsonl"])
def test_the_manifest_is_never_replaced(manifest: Path, name: str, force: bool) -> None:
    before = manifest.read_bytes()
    (manifest.parent / "link.jsonl").symlink_to(manifest)
    (manifest.parent / "link").symlink_to(manifest.parent)
    with pytest.raises(DataError, match="is what is read"):
        pairs(manifest, manifest.parent / name, force=force)
    assert manifest.read_bytes() == before
