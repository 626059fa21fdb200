from __future__ import annotations

import hashlib
import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("espeakng_loader")

from components.datasets.demo import DemoSource
from core.data.source import Source
from core.data.uri import make_source
from core.errors import ConfigError, DataError

ROOT = Path(__file__).parents[3]
SPLITS = ("train", "validation", "test")
MAKE = """
import signal, sys, pathlib
from components.datasets.demo_corpus import DemoParameters, ensure
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
count = int(sys.argv[2])
parameters = DemoParameters(split="train", language="en", utterances=count, seed=0)
print(ensure(parameters, pathlib.Path(sys.argv[1])))
assert "torch" not in sys.modules
"""


def start(cache: Path, utterances: int = 12) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAKE, str(cache), str(utterances)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def opened(cache: Path, split: str, utterances: int, language: str = "en") -> DemoSource:
    source = DemoSource(location=split, utterances=utterances, language=language)  # type: ignore[arg-type]
    source.open(cache)
    return source


def content(cache: Path) -> dict[str, str]:
    return {
        str(path.relative_to(cache)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(cache.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def corpora(cache: Path) -> dict[str, DemoSource]:
    return {split: opened(cache, split, 30) for split in SPLITS}


def test_it_is_a_source_that_describes_its_files(corpora: dict[str, DemoSource]) -> None:
    source = corpora["train"]
    assert isinstance(source, Source)
    assert len(source) == len(source.durations) == len(list(source.texts())) == 30
    assert source.durations.dtype == np.float32
    for index, text in enumerate(source.texts()):
        cut = source.cut(index)
        audio, rate = soundfile.read(cut.recording.sources[0].source, dtype="int16")
        assert rate == cut.sampling_rate == 16000
        assert audio.ndim == 1
        assert len(audio) == cut.num_samples == cut.recording.num_samples
        assert cut.duration == pytest.approx(source.durations[index])
        assert 0.8 < cut.duration < 6.0
        assert 0.1 < np.abs(audio).max() / 32768 < 0.95, "audible and not clipped"
        assert cut.supervisions[0].text == text
        assert cut.supervisions[0].language == "en"
    assert np.array_equal(source.cut(3).load_audio(), source.cut(3).load_audio())


def test_speakers_and_sentences_are_disjoint(corpora: dict[str, DemoSource]) -> None:
    speakers = {
        split: {source.cut(i).supervisions[0].speaker for i in range(len(source))}
        for split, source in corpora.items()
    }
    variants = {split: {name.partition("+")[2] for name in speakers[split]} for split in SPLITS}
    texts = {split: set(source.texts()) for split, source in corpora.items()}
    assert [len(speakers[split]) for split in SPLITS] == [30, 6, 6]
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not speakers[one] & speakers[other]
        assert not variants[one] & variants[other], "an accent does not make another speaker"
        assert not texts[one] & texts[other]


def test_two_processes_make_the_same_bytes(tmp_path: Path) -> None:
    processes = [start(tmp_path / name) for name in ("a", "b")]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    files = content(tmp_path / "a")
    assert len(files) == 12 + 2, "audio, the manifest and the lock"
    assert content(tmp_path / "b") == files


def test_a_seed_and_a_size_make_another_corpus(cache: Path, corpora: dict[str, DemoSource]) -> None:
    other = DemoSource(location="validation", utterances=30, seed=1)
    other.open(cache)
    assert other.fingerprint != corpora["validation"].fingerprint
    assert list(other.texts()) != list(corpora["validation"].texts())


def test_processes_that_ask_at_once_make_it_once(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert len({folder for folder, _ in results}) == 1
    assert sum("voices in" in messages for _, messages in results) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_generator_leaves_no_half_corpus(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, utterances=200)
    while process.poll() is None and len(list(tmp_path.rglob("*.wav"))) < 10:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert all(".part-" in path.name for path in left)
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    again = start(tmp_path, utterances=200)
    _, messages = again.communicate()
    assert again.returncode == 0, messages
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
    assert len(list(tmp_path.rglob("*.wav"))) == 200


def test_a_damaged_corpus_is_made_again_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = opened(tmp_path, "test", 3)
    before = content(tmp_path)
    path = Path(first.cut(1).recording.sources[0].source)
    path.write_bytes(path.read_bytes()[:1000])
    capfd.readouterr()
    assert opened(tmp_path, "test", 3).fingerprint == first.fingerprint
    assert "000001.wav is missing or incomplete; making it again" in capfd.readouterr().err
    assert content(tmp_path) == before
    opened(tmp_path, "test", 3)
    assert capfd.readouterr().err == "", "a complete corpus is not touched"


def test_korean(cache: Path) -> None:
    source = opened(cache, "test", 6, language="ko")
    for index, text in enumerate(source.texts()):
        supervision = source.cut(index).supervisions[0]
        assert any("가" <= character <= "힣" for character in text)
        assert supervision.language == "ko"
        assert supervision.speaker.startswith("ko+")
    assert source.durations.min() > 1.0


def test_it_opens_by_uri_and_travels_to_workers(cache: Path) -> None:
    source = make_source("demo:validation?utterances=30&seed=0&language=en")
    assert isinstance(source, DemoSource)
    source.open(cache)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.cut(7) == source.cut(7)
    assert copy.fingerprint == source.fingerprint


def test_sizes_when_none_is_asked_for() -> None:
    with pytest.raises(DataError, match="before open"):
        len(DemoSource(location="train"))
    from components.datasets.demo_corpus import DEFAULT_UTTERANCES

    assert DEFAULT_UTTERANCES == {"train": 2400, "validation": 120, "test": 160}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "tset"}, "demo:tset: there is no such split; did you mean 'test'"),
        ({"location": ""}, "valid splits: 'test', 'train', 'validation'"),
        ({"language": "de"}, "language is 'de', expected 'en' or 'ko'"),
        ({"utterances": 0}, "utterances is 0, expected 1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DemoSource(**options)  # type: ignore[arg-type]


def test_without_the_wheel_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r"espeakng-loader.*pip install 'sori\[demo\]'"):
        opened(tmp_path, "train", 2)


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be kept in"):
        opened(tmp_path / "file", "train", 2)


def test_the_manifest_is_one_that_other_tools_read(corpora: dict[str, DemoSource]) -> None:
    manifest = Path(corpora["train"].cut(0).recording.sources[0].source).parents[1]
    rows = [json.loads(line) for line in (manifest / "manifest.jsonl").open()]
    assert {"audio_filepath", "duration", "text", "speaker", "lang"} <= set(rows[0])
    assert all((manifest / row["audio_filepath"]).exists() for row in rows)
    for row in rows:
        samples, _ = soundfile.read(manifest / row["audio_filepath"], dtype="int16")
        assert hashlib.sha256(samples.tobytes()).hexdigest() == row["sha256"]
