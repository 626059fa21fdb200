from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.datasets.speech_pairs import SpeechPairData
from core.contracts import (
    UNMAPPED,
    Batch,
    Eventful,
    Exhaustible,
    PairForm,
    PairSource,
    RunContext,
    SamplingData,
    SpeechPairBatch,
    TokenIds,
)
from core.errors import ConfigError, DataError
from tests.fixtures.pair_files import LATENTS, WIDTH, edit_row, read_rows, write_mel, write_pairs

ROWS, MELS = 24, 18
FORM = PairForm(
    text=TokenIds(size=50, reserved=(0, 1)),
    codes=TokenIds(size=90, reserved=(90, 91)),
    latents=(LATENTS, WIDTH),
)
"""What a model reads that the files suit."""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data", ROWS, mels=MELS)


@pytest.fixture
def speakers(tmp_path: Path) -> Path:
    path = tmp_path / "speakers.json"
    path.write_text(json.dumps({"S2": 0, "S0": 1}))
    return path


def ready(
    manifest: Path,
    tmp_path: Path,
    *,
    run: dict[str, Any] | None = None,
    form: PairForm | None = None,
    **options: Any,
) -> SpeechPairData:
    settings: dict[str, Any] = {
        "train": str(manifest),
        "validation": {},
        "test": {},
        "speakers": None,
        "batch_size": 4,
        "block": 12,
        "bucket": 4,
    }
    data = SpeechPairData(**{**settings, **options})
    if form is not None:
        assert isinstance(data, PairSource)
        data.expect(form)
    data.setup(RunContext(assets=tmp_path / "assets", **(run or {})))
    return data


def everything(batches: Iterable[Any]) -> tuple[list[SpeechPairBatch], dict[str, str]]:
    found = list(batches)
    return found, {s.id: f"{s.reason} {s.detail}" for batch in found for s in batch.skipped}


def test_a_batch_has_what_the_files_have(manifest: Path, tmp_path: Path, speakers: Path) -> None:
    data = ready(manifest, tmp_path, speakers=str(speakers), vectors=True)
    assert data.num_speakers == 2
    rows = {row["id"]: row for row in read_rows(manifest)}
    batches, skipped = everything(data.train_stream())
    assert not skipped
    assert sorted(name for batch in batches for name in batch.ids) == sorted(list(rows)[:MELS])
    for batch in batches:
        assert isinstance(batch, Batch)
        assert isinstance(batch, Eventful)
        assert batch.mel is not None
        assert batch.emotion is not None
        for place, name in enumerate(batch.ids):
            row, folder = rows[name], manifest.parent

            def stored(path: str, folder: Path = folder) -> torch.Tensor:
                return torch.from_numpy(np.load(folder / path))

            for field, given in (
                ("target_text_ids_path", batch.text),
                ("target_codes_path", batch.codes),
                ("target_mel_path", batch.mel),
            ):
                wanted, length = stored(row[field]), int(given.lengths[place])
                assert length == len(wanted)
                assert torch.equal(given.values[place, :length], wanted.to(given.values.dtype))
                assert not given.values[place, length:].any()
            assert torch.equal(batch.condition[place], stored(row["prompt_condition_path"]))
            assert torch.equal(batch.emotion[place], stored(row["target_emo_vec_path"]))
            wanted_class = {"S2": 0, "S0": 1}.get(row["speaker"], UNMAPPED)
            assert int(batch.speakers[place]) == wanted_class
        assert batch.text.values.dtype == batch.codes.values.dtype == torch.int64
        assert batch.condition.dtype == batch.mel.values.dtype == torch.float32


def test_the_stream_ends_with_the_mel_and_says_what_to_run(manifest: Path, tmp_path: Path) -> None:
    stream = ready(manifest, tmp_path).train_stream()
    assert isinstance(stream, Exhaustible)
    assert stream.exhausted is None
    list(stream)
    message = stream.exhausted
    assert message is not None
    assert f"all {MELS} rows" in message
    assert f"python -m core.prepare mel {manifest}" in message
    assert f"python -m core.prepare order {manifest}" in message


def test_a_limit_makes_the_first_rows_the_whole_manifest(manifest: Path, tmp_path: Path) -> None:
    data = ready(manifest, tmp_path, limit=9)
    stream = data.train_stream()
    assert isinstance(stream, Exhaustible)
    assert stream.steps_per_epoch == 3
    names = [row["id"] for row in read_rows(manifest)]
    batches, _ = everything(stream)
    assert sorted(name for batch in batches for name in batch.ids) == sorted(names[:9])
    assert (stream.epoch, stream.exhausted) == (1, None)
    assert any("the first 9 rows alone; batches of 4" in line for line in data.summary())

    beyond = ready(manifest, tmp_path, limit=20).train_stream()
    everything(beyond)
    assert isinstance(beyond, Exhaustible)
    assert beyond.exhausted is not None, "rows 19 and 20 have no mel yet"
    assert "all 18 rows that can be used are consumed, of 20" in beyond.exhausted


def test_stored_vectors_stand_in_for_mel_without_a_speaker(
    manifest: Path, tmp_path: Path, speakers: Path
) -> None:
    data = ready(manifest, tmp_path, speakers=str(speakers), without_mel="stored", batch_size=8)
    batches, skipped = everything(data.train_stream())
    assert not skipped
    assert sum(len(batch) for batch in batches) == ROWS
    events = sum((Counter(batch.events) for batch in batches), Counter[str]())
    assert events["stored emotion vectors"] == ROWS - MELS
    seen = 0
    for batch in batches:
        for place, name in enumerate(batch.ids):
            has_mel = int(name[1:].split("__")[0]) < MELS
            assert has_mel == (batch.mel is not None and int(batch.mel.lengths[place]) > 0)
            given = batch.emotion is not None and bool(batch.emotion[place].any())
            assert given != has_mel
            if not has_mel:
                seen += 1
                assert int(batch.speakers[place]) == UNMAPPED
    assert seen == ROWS - MELS


def test_the_prompt_gives_mel_and_vector_if_asked_to(manifest: Path, tmp_path: Path) -> None:
    for number in range(6):
        edit_row(manifest, number, prompt_mel_path=write_mel(manifest.parent, f"P{number + 100}"))
    (batch,) = ready(manifest, tmp_path, emotion="prompt", batch_size=6).train_stream()
    assert batch.mel is not None
    for place, name in enumerate(batch.ids):
        number = int(name[1:].split("__")[0])
        mel = np.load(manifest.parent / f"mel/P{number + 100}.npy")
        assert torch.equal(batch.mel.values[place, : len(mel)], torch.from_numpy(mel))


def test_a_batch_names_the_utterances_that_gave_its_mel(manifest: Path, tmp_path: Path) -> None:
    edit_row(manifest, 1, target_emotion="lively", prompt_emotion="subdued")
    edit_row(manifest, 2, target_audio_path=None)
    (batch,) = ready(manifest, tmp_path, batch_size=MELS, bucket=MELS, block=ROWS).train_stream()
    place = {name: number for number, name in enumerate(batch.utterances)}
    assert len(place) == MELS
    assert all(name.startswith(f"{batch.utterances[n]}__") for n, name in enumerate(batch.ids))
    assert set(batch.sides) == {"target"}
    assert batch.emotions[place["T1"]] == "lively"
    assert batch.emotions[place["T0"]] == ""
    assert batch.audio[place["T0"]] == str(manifest.parent / "audio/T0.wav")
    assert batch.audio[place["T2"]] == ""
    assert batch.speaker_names[place["T1"]] == "S1"
    for number in range(6):
        edit_row(manifest, number, prompt_mel_path=write_mel(manifest.parent, f"P{number}"))
    (other,) = ready(manifest, tmp_path, emotion="prompt", batch_size=6).train_stream()
    place = {name: number for number, name in enumerate(other.utterances)}
    assert place.keys() == {f"P{number}" for number in range(6)}
    assert other.emotions[place["P1"]] == "subdued"
    assert other.to(torch.device("cpu")).utterances == other.utterances


def test_a_sample_has_each_utterance_once_and_known_speakers_first(
    manifest: Path, tmp_path: Path, speakers: Path
) -> None:
    edit_row(manifest, 4, target_id="T0", id="T0__P4")  # Speaker S0, as row 0.
    data = ready(manifest, tmp_path, speakers=str(speakers), test={"probe": str(manifest)})
    assert isinstance(data, SamplingData)
    sample = data.sample_utterances("probe", limit=100, seed=0)
    batches, skipped = everything(sample.batches)
    assert not skipped
    utterances = [name for batch in batches for name in batch.utterances]
    assert len(utterances) == len(set(utterances)) == sample.count == MELS - 1
    known = [bool((batch.speakers != UNMAPPED).all()) for batch in batches]
    assert known == sorted(known, reverse=True)
    assert not any((batch.speakers != UNMAPPED).any() for batch in batches[known.index(False) :])
    assert sample.notes == (
        "probe: 8 utterances of 2 speakers, from 9 rows of 2",
        "probe: 9 utterances of 2 speakers without a class, from 9 rows of 2",
    )
    few = data.sample_utterances("probe", limit=4, seed=0)
    assert Counter(n for batch in few.batches for n in batch.speaker_names) == dict.fromkeys(
        ("S0", "S1", "S2", "S3"), 2
    )
    bare = write_pairs(tmp_path / "bare", 4)
    stored = ready(manifest, tmp_path, without_mel="stored")
    with pytest.raises(DataError, match="mel not found"):
        stored.sample_utterances(str(bare), limit=4, seed=0)


def test_speakers_unknown_to_the_mapping_may_be_tested_on_and_not_trained_on(
    manifest: Path, tmp_path: Path
) -> None:
    mapping = tmp_path / "strangers.json"
    mapping.write_text(json.dumps({"A": 0, "B": 1}))
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"S0": 0, "S1": 1}))
    other = write_pairs(tmp_path / "other", 6, mels=6)
    other.write_text(other.read_text().replace('"S', '"X'), encoding="utf-8")
    data = ready(manifest, tmp_path, speakers=str(known), test={"unseen": str(other)})
    summary = "\n".join(data.summary())
    assert "unseen: speaker mapping: 0 of 6 rows (0.00%), 0 of 4 speakers" in summary
    assert "an open set of speakers" in summary
    assert all((batch.speakers == UNMAPPED).all() for batch in data.eval_batches("unseen"))
    assert sum(len(batch) for batch in data.open_split(str(other))) == 6
    with pytest.raises(DataError, match="has a speaker of"):
        ready(manifest, tmp_path / "fresh", speakers=str(known), validation={"v": str(other)})
    with pytest.raises(DataError, match="has a speaker of"):
        ready(manifest, tmp_path / "again", speakers=str(mapping))


def test_mix_draws_a_side_for_each_row_and_epoch_alone(tmp_path: Path) -> None:
    manifest = write_pairs(tmp_path / "data", 40, mels=40)
    for number in range(40):
        path = write_mel(manifest.parent, f"P{number}", frames=20)
        edit_row(manifest, number, prompt_mel_path=path)

    def prompts(**options: Any) -> list[set[str]]:
        stream = ready(manifest, tmp_path, emotion="mix", **options).train_stream()
        found = []
        for _ in range(2):
            epoch = list(stream)
            found.append(
                {
                    name
                    for batch in epoch
                    for name, frames in zip(batch.ids, batch.mel.lengths.tolist(), strict=True)
                    if frames == 20
                }
            )
        return found

    first, second = prompts(mix=0.25)
    assert 2 <= len(first) <= 20
    assert first != second
    assert prompts(mix=0.25, batch_size=8, block=40) == [first, second]
    assert [len(each) for each in prompts(mix=1.0)] == [40, 40]
    assert [len(each) for each in prompts(mix=0.0)] == [0, 0]


def test_long_mels_are_cropped_and_counted(manifest: Path, tmp_path: Path) -> None:
    edit_row(manifest, 1, target_mel_path=write_mel(manifest.parent, "T99", frames=50))
    batches, _ = everything(ready(manifest, tmp_path, max_mel_frames=8).train_stream())
    assert max(int(batch.mel.lengths.max()) for batch in batches if batch.mel) == 8
    assert sum(batch.events.get("cropped mels", 0) for batch in batches) == 1


def save(shape: tuple[int, ...], dtype: Any = np.float32, fill: float = 0.0) -> Callable[..., None]:
    return lambda path: np.save(path, np.full(shape, fill, dtype=dtype))


def tell_of_more(path: Path) -> None:
    """Give a mel a header that tells of 32 TB."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (99_999_999_999, 80)}
        )
        file.write(bytes(800))


FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "vanished": ("mel/T5.npy", os.unlink, "mel: missing file"),
    "transposed": ("mel/T5.npy", save((80, 9)), "mel: transposed"),
    "width": ("mel/T5.npy", save((9, 64)), "mel: shape"),
    "flat": ("mel/T5.npy", save((80,)), "mel: shape"),
    "double": ("mel/T5.npy", save((9, 80), np.float64), "mel: dtype"),
    "nan": ("mel/T5.npy", save((9, 80), fill=np.nan), "mel: non-finite"),
    "empty": ("mel/T5.npy", save((0, 80)), "mel: empty"),
    "truncated": ("mel/T5.npy", lambda path: os.truncate(path, 500), "mel: not an array"),
    "huge": ("mel/T5.npy", tell_of_more, "mel: not an array"),
    "short": ("arrays/codes5.npy", save((2,), np.int32), "code: code too short"),
    "floats": ("arrays/text5.npy", save((9,)), "text: shape"),
    "negative": ("arrays/text5.npy", save((9,), np.int32, -1), "text ids"),
    "latents": ("arrays/condition5.npy", save((3, 8)), "condition: shape"),
    "no latents": ("arrays/condition5.npy", os.unlink, "condition: missing file"),
    "vector": ("arrays/emotion5.npy", save((9,)), "emotion vector: shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_cannot_be_used_is_left_out_with_the_reason(
    manifest: Path, tmp_path: Path, fault: str
) -> None:
    path, spoil, reason = FAULTS[fault]
    data = ready(manifest, tmp_path, vectors=True)
    spoil(manifest.parent / path)
    batches, skipped = everything(data.train_stream())
    assert list(skipped) == ["T5__P5"]
    assert reason.removeprefix("code: ") in skipped["T5__P5"]
    assert sum(len(batch) for batch in batches) == MELS - 1


@pytest.mark.parametrize("fault", ["transposed", "width", "double", "nan", "empty"])
def test_a_first_row_that_is_wrong_is_refused_before_training(
    manifest: Path, tmp_path: Path, fault: str
) -> None:
    _, spoil, reason = FAULTS[fault]
    spoil(manifest.parent / "mel/T0.npy")
    with pytest.raises(DataError, match=reason) as caught:
        ready(manifest, tmp_path)
    assert "row 1 'T0__P0'" in str(caught.value)
    assert "expected" in str(caught.value) or "of 720 values" in str(caught.value)


def replace_id(path: Path, value: int, *, place: int = -1) -> None:
    values = np.load(path)
    values[place] = value
    np.save(path, values)


@pytest.mark.parametrize(
    ("kind", "value", "detail"),
    [
        ("text", 99_999, "99999 is not in the model's vocabulary; expected 0 to 49"),
        ("text", 50, "50 is not in the model's vocabulary"),
        ("text", 0, "0 is start or stop"),
        ("text", 1, "1 is start or stop"),
        ("codes", 5000, "5000 is not in the model's vocabulary; expected 0 to 89"),
        ("codes", 90, "90 is start or stop, which the model adds itself"),
        ("codes", 91, "91 is start or stop"),
    ],
)
@pytest.mark.parametrize("place", [0, -1])
def test_a_row_with_an_id_that_the_model_does_not_know_is_left_out(
    manifest: Path, tmp_path: Path, kind: str, value: int, detail: str, place: int
) -> None:
    file = manifest.parent / f"arrays/{kind}5.npy"
    replace_id(file, value, place=place)
    batches, skipped = everything(ready(manifest, tmp_path, form=FORM).train_stream())
    name = kind.removesuffix("s")
    assert list(skipped) == ["T5__P5"]
    assert skipped["T5__P5"].startswith(f"{name} ids arrays/{kind}5.npy: {detail}")
    assert sum(len(batch) for batch in batches) == MELS - 1
    first = manifest.parent / f"arrays/{kind}0.npy"
    replace_id(first, value, place=place)
    with pytest.raises(DataError, match=f"row 1 'T0__P0': {name} ids: arrays/{kind}0.npy: {value}"):
        ready(manifest, tmp_path, form=FORM)


def test_the_form_of_a_model_that_the_files_suit_changes_nothing(
    manifest: Path, tmp_path: Path
) -> None:
    plain, told = (
        everything(ready(manifest, tmp_path, form=form, without_mel="stored").train_stream())
        for form in (None, FORM)
    )
    assert not plain[1]
    assert not told[1]
    for left, right in zip(plain[0], told[0], strict=True):
        assert left.ids == right.ids
        assert torch.equal(left.codes.values, right.codes.values)
        assert torch.equal(left.text.values, right.text.values)
        assert torch.equal(left.condition, right.condition)


@pytest.mark.parametrize("latents", [(LATENTS, 2 * WIDTH), (2 * LATENTS, WIDTH)])
def test_latents_that_the_model_cannot_read_are_refused_before_training(
    manifest: Path, tmp_path: Path, latents: tuple[int, int]
) -> None:
    with pytest.raises(DataError, match=r"condition: shape: arrays/condition0\.npy") as caught:
        ready(manifest, tmp_path, form=replace(FORM, latents=latents))
    assert f"expected {latents} floats" in str(caught.value)
    assert "found float32 (2, 8)" in str(caught.value)


def test_stored_vectors_that_the_model_cannot_read_are_refused_before_training(
    manifest: Path, tmp_path: Path
) -> None:
    for number in range(ROWS):
        save((4,))(manifest.parent / f"arrays/emotion{number}.npy")
    ready(manifest, tmp_path, form=FORM)  # Rows with mel do not read them.
    refusal = (
        r"row 19 'T18__P18': emotion vector: shape: .*emotion18\.npy: expected \(8,\) .*\(4,\)"
    )
    with pytest.raises(DataError, match=refusal):
        ready(manifest, tmp_path, form=FORM, without_mel="stored")
    with pytest.raises(DataError, match=r"row 1 .*emotion0\.npy: expected \(8,\) floats"):
        ready(manifest, tmp_path, form=FORM, vectors=True)


def test_long_rows_are_left_out(manifest: Path, tmp_path: Path) -> None:
    edit_row(manifest, 0, target_code_len=6)
    longest = max(row["target_code_len"] for row in read_rows(manifest)[:MELS])
    _, skipped = everything(ready(manifest, tmp_path, max_codes=longest - 1).train_stream())
    assert skipped
    assert all(f"{longest} tokens" in text for text in skipped.values())
    _, skipped = everything(ready(manifest, tmp_path, max_text=6).train_stream())
    assert set(skipped) == {f"T{n}__P{n}" for n in range(MELS) if n % 5 == 4}


def test_seconds_follow_from_the_rate_of_the_codes(manifest: Path, tmp_path: Path) -> None:
    first = next(iter(ready(manifest, tmp_path, token_seconds=0.08).train_stream()))
    assert first.seconds == pytest.approx(0.08 * int(first.codes.lengths.sum()))
    with pytest.raises(ConfigError, match="token_seconds must be positive, found 0"):
        ready(manifest, tmp_path, token_seconds=0.0)


def test_codes_beyond_the_declared_length_are_padding(manifest: Path, tmp_path: Path) -> None:
    edit_row(manifest, 0, target_code_len=2)
    batches, skipped = everything(ready(manifest, tmp_path).train_stream())
    lengths = {
        name: int(length)
        for batch in batches
        for name, length in zip(batch.ids, batch.codes.lengths, strict=True)
    }
    assert not skipped
    assert lengths["T0__P0"] == 2


def test_a_batch_without_a_usable_row_is_empty_and_whole(manifest: Path, tmp_path: Path) -> None:
    data = ready(manifest, tmp_path)
    for path in (manifest.parent / "mel").iterdir():
        path.unlink()
    batches, skipped = everything(data.train_stream())
    assert len(skipped) == MELS
    for batch in batches:
        assert len(batch) == 0
        assert batch.condition.shape == (0, 2, 8)
        assert batch.seconds == batch.padded_seconds == 0
        batch.to(torch.device("cpu"))


def test_mel_not_found_says_what_to_run(tmp_path: Path) -> None:
    manifest = write_pairs(tmp_path / "data", 5)
    with pytest.raises(DataError, match="mel not found: no row of 5 has target_mel_path") as caught:
        ready(manifest, tmp_path)
    assert f"python -m core.prepare mel {manifest}" in str(caught.value)
    edit_row(manifest, 3, target_mel_path=write_mel(manifest.parent, "T3"))
    with pytest.raises(DataError, match="1 of 5 rows have target_mel_path, but not the first"):
        ready(manifest, tmp_path)


def test_mel_paths_without_files_say_what_to_run(manifest: Path, tmp_path: Path) -> None:
    for path in (manifest.parent / "mel").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of the 18 rows looked at") as caught:
        ready(manifest, tmp_path)
    assert "mel: missing file" in str(caught.value)
    assert "core.prepare mel" in str(caught.value)


def test_one_missing_mel_is_told_and_does_not_stop_the_start(
    manifest: Path, tmp_path: Path
) -> None:
    (manifest.parent / "mel/T0.npy").unlink()
    data = ready(manifest, tmp_path)
    assert any("1 cannot be used" in line for line in data.summary())
    _, skipped = everything(data.train_stream())
    assert list(skipped) == ["T0__P0"]


def test_a_mapping_without_hits_is_refused(manifest: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"KO_x_SPEAKER_00": 0}')
    with pytest.raises(DataError, match="0 of 18 rows, 0 of 4 speakers"):
        ready(manifest, tmp_path, speakers=str(path))


def test_the_summary_tells_rows_coverage_and_padding(
    manifest: Path, tmp_path: Path, speakers: Path
) -> None:
    edit_row(manifest, 20, target_mel_path=write_mel(manifest.parent, "T20"))
    text = "\n".join(ready(manifest, tmp_path, speakers=str(speakers)).summary())
    assert "24 pairs; the first 18 (75.00%) have mel" in text
    assert "1 rows with mel stand behind" in text
    assert "speaker mapping: 9 of 18 rows (50.00%), 2 of 4 speakers have a class" in text
    assert "padding" in text


def test_evaluation_is_the_same_each_time_and_ranks_share_it(
    manifest: Path, tmp_path: Path
) -> None:
    def names(**run: Any) -> list[tuple[str, ...]]:
        data = ready(manifest, tmp_path, validation={"val": str(manifest)}, run=run)
        assert data.eval_splits == ("val",)
        first = [batch.ids for batch in data.eval_batches("val")]
        assert first == [batch.ids for batch in data.eval_batches("val")]
        return first

    alone = names()
    assert sorted(name for batch in alone for name in batch) == sorted(
        row["id"] for row in read_rows(manifest)[:MELS]
    )
    assert [names(rank=rank, world_size=2) for rank in range(2)] == [alone[::2], alone[1::2]]


def test_a_finished_model_needs_no_manifest_until_it_is_asked(
    manifest: Path, tmp_path: Path, speakers: Path
) -> None:
    ready(manifest, tmp_path, speakers=str(speakers))
    speakers.unlink()
    data = ready(tmp_path / "gone.jsonl", tmp_path, speakers=str(speakers), run={"training": False})
    assert data.num_speakers == 2
    assert sum(len(batch) for batch in data.open_split(str(manifest))) == MELS


def test_workers_change_nothing(manifest: Path, tmp_path: Path) -> None:
    alone = list(ready(manifest, tmp_path).train_stream())
    helped = list(ready(manifest, tmp_path, workers=2).train_stream())
    assert [batch.ids for batch in alone] == [batch.ids for batch in helped]
    for left, right in zip(alone, helped, strict=True):
        assert torch.equal(left.mel.values, right.mel.values)
        assert torch.equal(left.codes.values, right.codes.values)


def test_options_are_checked(tmp_path: Path, manifest: Path) -> None:
    with pytest.raises(ConfigError, match="mix is a probability"):
        ready(manifest, tmp_path, mix=1.5)
    with pytest.raises(ConfigError, match="rows_per_speaker=3"):
        ready(manifest, tmp_path, rows_per_speaker=3, bucket=6)
    with pytest.raises(ConfigError, match="used twice: train"):
        ready(manifest, tmp_path, validation={"train": str(manifest)})
    with pytest.raises(ConfigError, match="did you mean 'val'"):
        ready(manifest, tmp_path, validation={"val": str(manifest)}).eval_batches("vla")
