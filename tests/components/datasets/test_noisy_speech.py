from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from components.augmentations.multi_speaker_noise import MultiSpeakerNoise
from components.datasets.nemo import NemoSource
from components.datasets.noisy_speech import NoisySpeechData
from components.features.log_mel import LogMel
from core.contracts import Batch, NoisySpeechBatch, RunContext
from core.errors import ConfigError, DataError
from tests.core.data.corpus_files import RATE, mixed_durations, write_corpus, write_lines, write_wav

ALWAYS: dict[str, Any] = {"prob": 1.0, "noise_ratio": 0.5}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), mixed_durations(40))


def noisy(train: Path | str, tmp_path: Path, **changes: Any) -> NoisySpeechData:
    uri = train if isinstance(train, str) else f"nemo:{train}"
    values: dict[str, Any] = {
        "train": uri,
        "validation": {"dev": uri},
        "test": {},
        "noise": "synthetic_noise:",
        "augmentation": MultiSpeakerNoise(**ALWAYS),
        "batch_seconds": 4.0,
        "min_seconds": 0.1,
        "repeat_to_seconds": 0.0,
        "cache_dir": str(tmp_path / "cache"),
    }
    return NoisySpeechData(**(values | changes))


def ready(
    train: Path | str,
    tmp_path: Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    training: bool = True,
    **changes: Any,
) -> NoisySpeechData:
    data = noisy(train, tmp_path, **changes)
    data.setup(
        RunContext(assets=tmp_path, rank=rank, world_size=world_size, seed=seed, training=training)
    )
    return data


def taken(batches: Iterable[Batch], count: int | None = None) -> list[NoisySpeechBatch]:
    found = []
    for batch in islice(batches, count):
        assert isinstance(batch, NoisySpeechBatch)
        assert batch.clean_audio is not None
        assert batch.noisy_audio is not None
        assert torch.isfinite(batch.clean_audio.values).all()
        assert torch.isfinite(batch.noisy_audio.values).all()
        assert torch.equal(batch.clean_audio.lengths, batch.noisy_audio.lengths)
        found.append(batch)
    return found


def heard(batch: NoisySpeechBatch) -> torch.Tensor:
    assert batch.noisy_audio is not None
    return batch.noisy_audio.values


def said(batch: NoisySpeechBatch) -> torch.Tensor:
    assert batch.clean_audio is not None
    return batch.clean_audio.values


def by_name(batches: Sequence[NoisySpeechBatch]) -> dict[str, list[float]]:
    """Return what was added to each utterance."""
    return {
        name: row[: int(length)].tolist()
        for batch in batches
        for name, row, length in zip(
            batch.ids,
            heard(batch) - said(batch),
            batch.clean_audio.lengths if batch.clean_audio else (),
            strict=True,
        )
    }


def same(left: Sequence[NoisySpeechBatch], right: Sequence[NoisySpeechBatch]) -> bool:
    return [b.ids for b in left] == [b.ids for b in right] and all(
        torch.equal(heard(a), heard(b)) and torch.equal(said(a), said(b))
        for a, b in zip(left, right, strict=True)
    )


def events(batches: Iterable[NoisySpeechBatch]) -> Counter[str]:
    total: Counter[str] = Counter()
    for batch in batches:
        total.update(batch.events)
    return total


def test_construction_touches_nothing(tmp_path: Path) -> None:
    noisy("nemo:/nowhere.jsonl", tmp_path, noise="nemo:/nowhere.jsonl")
    assert not list(tmp_path.iterdir())


def test_every_utterance_is_heard_with_something_over_it(manifest: Path, tmp_path: Path) -> None:
    batches = taken(ready(manifest, tmp_path).train_stream())
    added = by_name(batches)
    assert len(added) == 40
    assert all(any(row) for row in added.values())
    assert set(events(batches)) <= {"no other speaker"}, "some batches have one speaker"


def test_two_workers_give_the_batches_of_none(manifest: Path, tmp_path: Path) -> None:
    alone = taken(ready(manifest, tmp_path).train_stream())
    assert same(alone, taken(ready(manifest, tmp_path, workers=2).train_stream()))


def test_a_validation_is_the_same_at_every_call_and_on_any_number_of_ranks(
    manifest: Path, tmp_path: Path
) -> None:
    data = ready(manifest, tmp_path)
    first = taken(data.eval_batches("dev"))
    taken(data.train_stream(), 3)
    assert same(first, taken(data.eval_batches("dev")))
    assert same(first, taken(ready(manifest, tmp_path).eval_batches("dev")))
    assert same(first, taken(data.open_split("dev")))
    ranks = [
        taken(ready(manifest, tmp_path, rank=rank, world_size=2).eval_batches("dev"))
        for rank in range(2)
    ]
    assert by_name([*ranks[0], *ranks[1]]) == by_name(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_with_the_noise_it_would_have_had(
    manifest: Path, tmp_path: Path, workers: int
) -> None:
    whole = taken(ready(manifest, tmp_path).train_stream())
    before = ready(manifest, tmp_path, workers=workers).train_stream()
    assert same(taken(before, 4), whole[:4])
    after = ready(manifest, tmp_path, workers=workers).train_stream()
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert same(taken(after), whole[4:])


def test_epochs_seeds_and_ranks_hear_other_noise(manifest: Path, tmp_path: Path) -> None:
    stream = ready(manifest, tmp_path).train_stream()
    first, second = by_name(taken(stream)), by_name(taken(stream))
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    other = by_name(taken(ready(manifest, tmp_path, seed=1).train_stream()))
    assert all(first[name] != other[name] for name in first)


def test_two_ranks_hear_together_what_one_process_hears(manifest: Path, tmp_path: Path) -> None:
    alone = by_name(taken(ready(manifest, tmp_path).train_stream()))
    parts = [
        taken(ready(manifest, tmp_path, rank=rank, world_size=2).train_stream())
        for rank in range(2)
    ]
    for zero, one in zip(*parts, strict=True):
        assert not set(zero.ids) & set(one.ids)
        assert not torch.equal(heard(zero) - said(zero), heard(one) - said(one))
    # Only a last group that has to be halved for two ranks is put together differently.
    full = [batch for part in parts for batch in part[:-1]]
    assert by_name(full).items() <= alone.items()


def test_a_stream_resumes_with_its_noise(tmp_path: Path) -> None:
    source = NemoSource(location=str(write_corpus(tmp_path, [0.5] * 8)))
    source.open(None)
    shar = tmp_path / "shar"
    shar.mkdir()
    cuts = (source.cut(i).with_id(f"u{i}") for i in range(8))
    CutSet.from_cuts(cuts).to_shar(shar, fields={"recording": "wav"}, shard_size=2)

    def stream() -> Any:
        return ready(f"shar:{shar}", tmp_path, batch_seconds=1.0, buffer=4).train_stream()

    whole = taken(stream(), 12)
    before = stream()
    taken(before, 5)
    after = stream()
    after.load_state_dict(before.state_dict())
    assert same(taken(after, 7), whole[5:])
    first, second = by_name(whole[:4]), by_name(whole[4:8])
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    data = ready(f"shar:{shar}", tmp_path)
    assert same(taken(data.eval_batches("dev")), taken(data.eval_batches("dev")))


def test_published_batches_are_of_eight_and_full(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.5] * 19)
    data = ready(manifest, tmp_path, max_batch=8, batch_seconds=480.0, drop_last=True)
    assert [len(batch) for batch in taken(data.train_stream())] == [8, 8]
    assert "train: drop_last leaves out 3 utterances an epoch" in data.summary()
    assert sum(len(batch) for batch in taken(data.eval_batches("dev"))) == 19


def test_repeated_clips_count_at_their_full_length_when_batches_are_cut(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.2] * 12)
    data = ready(manifest, tmp_path, repeat_to_seconds=1.0)
    batches = [*taken(data.train_stream()), *taken(data.eval_batches("dev"))]
    assert all(batch.padded_seconds <= 4.0 for batch in batches)
    assert all(heard(batch).shape[1] == RATE for batch in batches)
    assert events(batches) == {"repeated clips": 24}


def test_noise_with_missing_files_is_drawn_again_then_replaced(
    manifest: Path, tmp_path: Path
) -> None:
    rows = [{"audio_filepath": f"{name}.wav", "duration": 1.0} for name in ("here", "gone", "lost")]
    write_wav(tmp_path / "here.wav", 1.0)
    some = f"nemo:{write_lines(tmp_path / 'some.jsonl', rows)}"
    none = f"nemo:{write_lines(tmp_path / 'none.jsonl', rows[1:])}"
    only = MultiSpeakerNoise(prob=1.0, noise_ratio=1.0)
    found = taken(ready(manifest, tmp_path, noise=some, augmentation=only).train_stream())
    assert set(events(found)) == {"noise retries", "noise retries missing file"}
    assert all(any(row) for row in by_name(found).values())
    found = taken(ready(manifest, tmp_path, noise=none, augmentation=only).train_stream())
    assert events(found) == {
        "noise retries": 20 * 40,
        "noise retries missing file": 20 * 40,
        "noise fallbacks": 40,
    }
    assert all(any(row) for row in by_name(found).values())


@contextmanager
def log_file(path: Path) -> Iterator[Path]:
    """Record warnings of all loggers as a run directory does."""
    handler = logging.FileHandler(path, encoding="utf-8")
    logging.getLogger().addHandler(handler)
    try:
        yield path
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_why_noise_fails_reaches_the_log_from_workers_once(
    manifest: Path, tmp_path: Path, workers: int
) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.zeros((RATE, 2)), RATE)
    rows = [{"audio_filepath": "stereo.wav", "duration": 1.0}]
    noise = f"nemo:{write_lines(tmp_path / 'noise.jsonl', rows)}"
    only = MultiSpeakerNoise(prob=1.0, noise_ratio=1.0)
    with log_file(tmp_path / "log.txt") as log:
        data = ready(manifest, tmp_path, noise=noise, augmentation=only, workers=workers)
        stream = data.train_stream()
        for batches in (stream, stream, data.eval_batches("dev"), data.eval_batches("dev")):
            assert events(taken(batches))["noise retries channels"] == 20 * 40
        lines = log.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2, "each evaluation has workers of its own, which must not say it again"
    assert "stereo.wav: channels: 2 channels, and channel='refuse'" in lines[0]
    assert "20 clips in a row could not be used; white noise is used" in lines[1]


def test_noise_of_unknown_duration_is_white_noise_from_the_start(
    manifest: Path, tmp_path: Path
) -> None:
    bare = f"nemo:{write_lines(tmp_path / 'n.jsonl', [{'audio_filepath': 'gone.wav'}])}"
    only = MultiSpeakerNoise(prob=1.0, noise_ratio=1.0)
    with log_file(tmp_path / "log.txt") as log:
        data = ready(manifest, tmp_path, noise=bare, augmentation=only)
        assert "none of 1 clips has a duration" in log.read_text(encoding="utf-8")
    assert any(line.startswith(f"noise: {bare}: WARNING: none of 1") for line in data.summary())
    found = taken(data.train_stream())
    assert events(found) == {"noise fallbacks": 40}
    assert all(any(row) for row in by_name(found).values())


def test_overloud_clips_are_skipped_and_what_passes_has_finite_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, peak in (("over", 1e18), ("loud", 9e4), ("integers", 32767.0), ("plain", 0.5)):
        audio = rng.uniform(-peak, peak, RATE).astype(np.float32)
        soundfile.write(tmp_path / f"{name}.wav", audio, RATE, subtype="FLOAT")
    names = ("over", "loud", "integers", "plain")
    rows = [{"audio_filepath": f"{name}.wav", "duration": 1.0} for name in names]
    path = write_lines(tmp_path / "m.jsonl", rows)
    mixer = MultiSpeakerNoise(prob=1.0, noise_ratio=1.0)
    data = ready(path, tmp_path, noise=f"nemo:{path}", augmentation=mixer)
    log_mel = LogMel()
    (batch,) = taken(data.train_stream())
    assert [(s.id, s.reason) for s in batch.skipped] == [("over.wav", "samples out of range")]
    for audio in (batch.clean_audio, batch.noisy_audio):
        assert audio is not None
        features, _ = log_mel(audio.values, audio.lengths)
        assert torch.isfinite(features).all()


def test_manifests_without_durations_are_measured(tmp_path: Path) -> None:
    write_corpus(tmp_path, [0.5, 0.7, 0.9])
    rows = [{"audio_filepath": f"wavs/00{number}.wav"} for number in (0, 1, 2, 3)]
    manifest = write_lines(tmp_path / "bare.jsonl", rows)
    data = ready(manifest, tmp_path, noise=f"nemo:{manifest}")
    for batches in (data.train_stream(), data.eval_batches("dev")):
        found = taken(batches)
        assert sorted(name for b in found for name in b.ids) == [
            f"wavs/00{number}.wav" for number in (0, 1, 2)
        ]
        assert not any(batch.skipped for batch in found)
    summary = data.summary()
    for split in ("train", "dev"):
        assert f"{split}: 4 of 4 rows have no duration; read from the files' headers" in summary
        assert f"{split}: left out 1 utterance, 0.00 h whose header cannot be read" in summary
    assert f"noise: nemo:{manifest}: 3 clips, 0.00 h" in summary


@pytest.mark.parametrize("repeat_to_seconds", [0.0, 1.0])
@pytest.mark.parametrize("form", [{}, {"unaugmented": "raw_noise", "segmentation": "multinomial"}])
def test_bad_clips_neither_crash_nor_give_nan_and_are_counted(
    tmp_path: Path, repeat_to_seconds: float, form: dict[str, Any]
) -> None:
    """Silence, one sample, less than eight frames, less than a block of forty, and no file."""
    lengths = {"silent": 8000, "click": 1, "eight": 1200, "block": 6000, "good": 9000}
    for name, samples in lengths.items():
        audio = np.zeros(samples) if name == "silent" else np.full(samples, 0.1)
        soundfile.write(tmp_path / f"{name}.wav", audio, RATE, subtype="FLOAT")
    rows = [{"audio_filepath": f"{name}.wav", "duration": n / RATE} for name, n in lengths.items()]
    rows.append({"audio_filepath": "gone.wav", "duration": 0.5})
    data = ready(
        write_lines(tmp_path / "m.jsonl", rows),
        tmp_path,
        min_seconds=0.0,
        repeat_to_seconds=repeat_to_seconds,
        noise=f"nemo:{tmp_path / 'm.jsonl'}",
        augmentation=MultiSpeakerNoise(
            prob=0.8,
            noise_ratio=0.7,
            segments=(1, 4),
            speakers=(1, 3),
            **form,
        ),
    )
    stream = data.train_stream()
    counted: Counter[str] = Counter()
    for _ in range(10):
        batches = taken(stream)
        assert [item.reason for b in batches for item in b.skipped] == ["missing file"]
        assert sum(len(batch) for batch in batches) == 5
        counted += events(batches)
    assert counted["silent clips"] == 10
    assert counted["repeated clips"] == (50 if repeat_to_seconds else 0)
    assert counted["noise retries"] > 0


def test_a_batch_of_one_takes_noise_instead_of_another_speaker(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.5, 0.6])
    mixer = MultiSpeakerNoise(prob=1.0, noise_ratio=0.0)
    batches = taken(ready(manifest, tmp_path, max_batch=1, augmentation=mixer).train_stream())
    assert events(batches) == {"no other speaker": 2}
    assert all(any(row) for row in by_name(batches).values())


def test_evaluation_has_noise_and_augmentation_of_its_own(manifest: Path, tmp_path: Path) -> None:
    data = ready(
        manifest,
        tmp_path,
        test={"eval": f"nemo:{manifest}"},
        validation_noise="synthetic_noise:validation?colour=brown",
        validation_augmentation=MultiSpeakerNoise(prob=0.0),
    )
    for batch in (*taken(data.eval_batches("dev")), *taken(data.eval_batches("eval"))):
        assert torch.equal(heard(batch), said(batch))
    assert not torch.equal(*(f(taken(data.train_stream(), 1)[0]) for f in (heard, said)))
    assert (data.eval_splits, data.test_splits) == (("dev",), ("eval",))
    assert {"train", "dev", "eval", "synthetic_noise:"} < data.fingerprint().keys()
    lines = [line for line in data.summary() if line.startswith("noise:")]
    assert lines == [
        "noise: synthetic_noise:: 300 clips, 0.83 h",
        "noise: synthetic_noise:validation?colour=brown: 300 clips, 0.83 h",
    ]


def test_without_noise_the_header_says_what_that_means(manifest: Path, tmp_path: Path) -> None:
    mixer = MultiSpeakerNoise(prob=1.0, noise_ratio=1.0)
    data = ready(manifest, tmp_path, noise=None, augmentation=mixer)
    assert "noise: none; an utterance that was to be mixed with it stays clean" in data.summary()
    assert not any(any(row) for row in by_name(taken(data.train_stream())).values())
    plain = ready(manifest, tmp_path, noise=None, augmentation=None)
    assert not any(line.startswith("noise") for line in plain.summary())
    assert not any(any(row) for row in by_name(taken(plain.train_stream())).values())


def test_a_finished_model_is_used_where_its_data_are_not(manifest: Path, tmp_path: Path) -> None:
    data = ready("nemo:/moved/away.jsonl", tmp_path, validation={}, training=False)
    assert data.summary() == []
    assert taken(data.open_split(f"nemo:{manifest}"))


def test_what_cannot_work_is_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="drop_last needs max_batch"):
        noisy(manifest, tmp_path, drop_last=True)
    with pytest.raises(ConfigError, match=r"batch_seconds=0\.5 does not hold one utterance"):
        noisy(manifest, tmp_path, batch_seconds=0.5, repeat_to_seconds=1.0)
    with pytest.raises(DataError, match="gone"):
        ready(manifest, tmp_path, noise="nemo:/gone.jsonl")
    with pytest.raises(ConfigError, match="used twice: train"):
        ready(manifest, tmp_path, validation={"train": f"nemo:{manifest}"})
    with pytest.raises(ConfigError, match="no split 'dv'; did you mean 'dev'"):
        ready(manifest, tmp_path).eval_batches("dv")


def test_noise_that_streams_is_refused(manifest: Path, tmp_path: Path) -> None:
    source = NemoSource(location=str(manifest))
    source.open(None)
    shar = tmp_path / "shar"
    shar.mkdir()
    cuts = (source.cut(i).with_id(f"u{i}") for i in range(4))
    CutSet.from_cuts(cuts).to_shar(shar, fields={"recording": "wav"}, shard_size=2)
    with pytest.raises(ConfigError, match="is a stream, and noise is drawn at random"):
        ready(manifest, tmp_path, noise=f"shar:{shar}")
