from __future__ import annotations

import gzip
import json
import os
from itertools import chain
from pathlib import Path

import pytest
from lhotse import CutSet, SupervisionSegment

from components.datasets.shar import SharSource
from core.data.audio import load_audio, recording
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.replay import ReplayStream, StreamOptions
from core.data.source import Source, StreamSource
from core.data.speech import SpeechCollator
from core.errors import DataError
from tests.core.data.corpus_files import RATE, tone, write_wav

UTTERANCES = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four shards of three, three, three and one utterance."""
    cuts = []
    for number in range(UTTERANCES):
        name = f"u{number}"
        path = write_wav(tmp_path / "wavs" / f"{name}.wav", 0.5 + 0.1 * number)
        cut = recording(path, utterance=name).to_cut()
        cut.supervisions = [
            SupervisionSegment(
                id=name, recording_id=name, start=0, duration=cut.duration, text=f"text {number}"
            )
        ]
        cuts.append(cut)
    shar = tmp_path / "shar"
    shar.mkdir()
    CutSet.from_cuts(cuts).to_shar(shar, fields={"recording": "flac"}, shard_size=3)
    return shar


def opened(folder: Path) -> SharSource:
    source = SharSource(location=str(folder))
    source.open(None)
    return source


def ids(
    source: SharSource, *, epoch: int = 0, shard: int = 0, shards: int = 1, seed: int | None = None
) -> list[str]:
    return [c.id for c in source.cuts(epoch=epoch, shard=shard, shards=shards, seed=seed)]


def test_cuts_come_with_their_audio(folder: Path) -> None:
    source = opened(folder)
    assert isinstance(source, StreamSource)
    assert not isinstance(source, Source)
    cuts = list(source.cuts(epoch=0, shard=0, shards=1, seed=None))
    assert [cut.id for cut in cuts] == [f"u{n}" for n in range(UTTERANCES)]
    assert [cut.supervisions[0].text for cut in cuts] == list(source.texts())
    audio = load_audio(cuts[3], sample_rate=RATE)
    assert abs(audio - tone(0.8)).max() < 1e-4


@pytest.mark.parametrize("shards", [1, 2, 4, 7])
def test_parts_are_disjoint_and_complete(folder: Path, shards: int) -> None:
    source = opened(folder)
    for epoch in range(2):
        parts = [ids(source, epoch=epoch, shard=s, shards=shards, seed=5) for s in range(shards)]
        assert sorted(chain.from_iterable(parts)) == sorted(f"u{n}" for n in range(UTTERANCES))


def test_seed_and_epoch_decide_the_order_of_shards(folder: Path) -> None:
    source = opened(folder)
    orders = {tuple(ids(source, epoch=epoch, seed=5)) for epoch in range(6)}
    assert len(orders) > 1
    assert ids(source, epoch=1, seed=5) == ids(source, epoch=1, seed=5)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_resumes_by_replay(folder: Path, workers: int) -> None:
    def stream() -> ReplayStream:
        return ReplayStream(
            source=opened(folder),
            collator=SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None),
            options=StreamOptions(
                plan=PlanOptions(batch_seconds=3.0), buffer=4, min_seconds=0.1, max_seconds=3.0
            ),
            name="shar",
            seed=1,
            loading=LoaderOptions(workers=workers, timeout=60),
        )

    whole = [batch.ids for batch, _ in zip(stream(), range(12), strict=False)]
    before = stream()
    for _ in zip(range(5), before, strict=False):
        pass
    after = stream()
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert [batch.ids for batch, _ in zip(after, range(7), strict=False)] == whole[5:]


def test_a_truncated_tar_is_an_error_that_says_how_far_it_got(folder: Path) -> None:
    tar = sorted(folder.glob("recording.*.tar"))[1]
    os.truncate(tar, tar.stat().st_size // 2)
    source = opened(folder)
    with pytest.raises(DataError, match=rf"{tar.name}.* of 3"):
        ids(source)


def test_a_tar_with_fewer_utterances_than_its_cuts_is_not_silent(folder: Path) -> None:
    cuts, tar = (sorted(folder.glob(f"{field}.*"))[0] for field in ("cuts", "recording"))
    line = gzip.decompress(cuts.read_bytes()).splitlines(keepends=True)[-1]
    more = line.replace(b'"id":"u2"', b'"id":"u2b"')
    cuts.write_bytes(cuts.read_bytes() + gzip.compress(more))
    with pytest.raises(DataError, match=f"{tar.name}: audio of 3 utterances, but .* has 4"):
        ids(opened(folder))


def test_a_truncated_list_of_cuts_is_an_error(folder: Path) -> None:
    cuts = sorted(folder.glob("cuts.*"))[0]
    os.truncate(cuts, cuts.stat().st_size - 20)
    with pytest.raises(DataError, match=r"cuts\.000000\.jsonl\.gz: damaged gzip data"):
        ids(opened(folder))


def test_a_missing_shard_is_found_when_opened(folder: Path) -> None:
    sorted(folder.glob("recording.*"))[2].unlink()
    with pytest.raises(DataError, match="shards of 'recording' and 'cuts' differ: 000002"):
        opened(folder)


def test_a_folder_that_is_not_shar_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        opened(tmp_path / "none")
    with pytest.raises(DataError, match="found neither"):
        opened(tmp_path)


def test_other_shards_have_another_fingerprint(folder: Path) -> None:
    before = opened(folder).fingerprint
    assert opened(folder).fingerprint == before
    for path in sorted(folder.iterdir()):
        if "000003" in path.name:
            path.unlink()
    assert opened(folder).fingerprint != before
