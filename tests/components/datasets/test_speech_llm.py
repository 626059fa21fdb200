from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.datasets.speech_llm import SpeechLLMData
from components.preparation.cache import Cache
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from components.text.normalizer import TextNormalizer
from core.contracts import Batch, FeatureBatch, FixedRows, RunContext
from core.errors import ConfigError, DataError
from tests.components.speech_llm.other_families import write_family
from tests.core.data.corpus_files import write_corpus

SECONDS = [1.0, 3.0, 4.5, 25.0, 5.5, 3.5, 8.0, 30.5, 4.0, 61.0]
TRAINED = [1, 2, 3, 4, 5, 6, 8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a corpus, a base model, and caches of features and encoder outputs."""
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        manifest = str(write_corpus(folder, SECONDS, text="네 (아) 맞아요."))
        write_tiny(folder / "base")
        plain: dict[str, Any] = {"manifest": manifest, "workers": 1, "dtype": "float32"}
        Cache(output=folder / "features", **plain)(lambda _: None)
        base: dict[str, Any] = {
            "encoder": str(folder / "base"),
            "quantization": "none",
            "device": "cpu",
        }
        Cache(output=folder / "encoded", **plain, **base)(lambda _: None)
    return folder


def model(folder: Path) -> SpeechLLM:
    return SpeechLLM(
        base=str(folder / "base"), lora=LoRA(dropout=0.0), quantization="none", dtype="float32"
    )


def ready(folder: Path, tmp_path: Path, *, training: bool = True, **changes: Any) -> SpeechLLMData:
    uri = f"nemo:{folder / 'train.jsonl'}"
    values: dict[str, Any] = {
        "train": uri,
        "validation": {"dev": uri},
        "test": {},
        "batch_size": 2,
        "dtype": "float32",
        "cache_dir": str(tmp_path / "cache"),
    }
    data = SpeechLLMData(**(values | changes))
    (tmp_path / "assets").mkdir(exist_ok=True)
    data.setup(RunContext(assets=tmp_path / "assets", training=training))
    return data


def cached(folder: Path, kind: str) -> dict[str, str]:
    return dict.fromkeys(("train", "dev"), str(folder / kind))


def taken(batches: Iterable[Batch]) -> list[FeatureBatch]:
    found = list(batches)
    assert all(isinstance(batch, FeatureBatch) for batch in found)
    return found  # type: ignore[return-value]


def same(one: list[FeatureBatch], other: list[FeatureBatch]) -> bool:
    def equal(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
        return a is b if a is None or b is None else torch.equal(a, b)

    return len(one) == len(other) and all(
        (a.ids, a.texts, a.chunks) == (b.ids, b.texts, b.chunks)
        and equal(a.features, b.features)
        and equal(a.encoded, b.encoded)
        for a, b in zip(one, other, strict=True)
    )


def test_construction_touches_nothing(tmp_path: Path) -> None:
    SpeechLLMData(
        train="nemo:/nowhere.jsonl",
        validation={},
        test={},
        batch_size=8,
        features={"train": "/nowhere"},
        model=SpeechLLM(base="/nowhere", lora=LoRA()),
        cache_dir=str(tmp_path / "cache"),
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_audio_features_and_outputs_of_the_encoder_give_one_loss(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    network = model(folder)
    (tmp_path / "assets").mkdir()
    network.setup(RunContext(assets=tmp_path / "assets"))
    network.eval()
    losses: list[list[tuple[Any, ...]]] = []
    for kind in (None, "features", "encoded"):
        features = cached(folder, kind) if kind else None
        data = ready(folder, tmp_path, features=features, model=network, workers=workers)
        batches = [*taken(data.train_stream()), *taken(data.eval_batches("dev"))]
        losses.append([])
        for batch in batches:
            assert (batch.encoded is not None) == (kind == "encoded")
            encoded = batch.encoded
            if encoded is None:
                assert batch.features is not None
                encoded = network.encode(batch.features)
            total, _ = network.loss(encoded, batch.chunks, batch.texts, "ko")
            losses[-1].append((batch.ids, batch.chunks, total.item()))
    assert losses[0] == losses[1] == losses[2]
    assert any(3 in chunks for _, chunks, _ in losses[0])


def test_training_is_filtered_and_evaluation_is_not(folder: Path, tmp_path: Path) -> None:
    data = ready(folder, tmp_path, features=cached(folder, "features"), batch_size=3)
    stream = data.train_stream()
    assert isinstance(stream, FixedRows)
    assert stream.rows_per_batch == 3
    batches = taken(stream)
    assert sorted(len(batch) for batch in batches) == [1, 3, 3]
    names = sorted(name for batch in batches for name in batch.ids)
    assert names == [f"wavs/{number:03d}.wav" for number in TRAINED]
    held_out = taken(data.eval_batches("dev"))
    assert sum(len(batch) for batch in held_out) == len(SECONDS)
    assert held_out[0].chunks == (3,), "the longest first, alone: batches hold so many chunks"
    assert all(sum(batch.chunks) <= 3 for batch in held_out)
    assert data.eval_splits == ("dev",)
    summary = "\n".join(data.summary())
    for line in (
        "left out 1 utterance, 0.00 h shorter than min_seconds=3",
        "left out 2 utterances, 0.03 h longer than max_seconds=25",
        "3 batches of up to 3 utterances, 74.5% padding",
        f"dev: features (float32) of 10 utterances from {folder / 'features'}",
    ):
        assert line in summary
    assert "train" in data.fingerprint()
    assert "features of dev" in data.fingerprint()


@pytest.mark.parametrize("kind", [None, "features"])
def test_what_a_model_cannot_hear_at_once_is_skipped_where_its_text_is_needed(
    folder: Path, tmp_path: Path, kind: str | None
) -> None:
    base = write_family(tmp_path / "base", "glmasr")
    short = SpeechLLM(base=str(base), lora=LoRA(), quantization="none", dtype="float32")
    features = cached(folder, kind) if kind else None
    data = ready(folder, tmp_path, features=features, model=short, max_seconds=70, min_seconds=1)
    for batches in (taken(data.train_stream()), taken(data.eval_batches("dev"))):
        left = {skipped.id: skipped for batch in batches for skipped in batch.skipped}
        assert set(left) == {"wavs/007.wav", "wavs/009.wav"}
        assert left["wavs/007.wav"].reason == "longer than the model takes at once"
        assert left["wavs/007.wav"].detail == "30.50 s; at most 30 s"
        assert sum(len(batch) for batch in batches) == len(SECONDS) - 2
        assert all(set(batch.chunks) <= {1} for batch in batches)
    opened = taken(data.open_split("dev"))
    assert not any(batch.skipped for batch in opened)
    assert sum(len(batch) for batch in opened) == len(SECONDS), "heard part by part"


def test_from_a_cache_the_audio_need_not_be_there(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "train.jsonl").write_bytes((folder / "train.jsonl").read_bytes())
    here = ready(folder, tmp_path, features=cached(folder, "features"))
    there = ready(alone, tmp_path, features=cached(folder, "features"))
    assert same(taken(here.train_stream()), taken(there.train_stream()))


@pytest.mark.parametrize("kind", ["features", "encoded"])
def test_a_stream_goes_on_exactly_whatever_the_workers(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    options: dict[str, Any] = {"features": cached(folder, kind), "model": model(folder)}
    stream = ready(folder, tmp_path, **options).train_stream()
    whole = [*taken(stream), *taken(stream)]
    for workers in (0, 2):
        begun = ready(folder, tmp_path, workers=2 - workers, **options).train_stream()
        iterator = iter(begun)
        first = [next(iterator)]
        state = begun.state_dict()
        resumed = ready(folder, tmp_path, workers=workers, **options).train_stream()
        resumed.load_state_dict(state)
        assert same(taken([*first, *resumed, *resumed]), whole)


def test_transcripts_are_normalised_but_for_evaluation_by_command(
    folder: Path, tmp_path: Path
) -> None:
    data = ready(folder, tmp_path, features=cached(folder, "features"), text=TextNormalizer())
    assert {text for batch in taken(data.train_stream()) for text in batch.texts} == {"네 맞아요"}
    assert {text for batch in taken(data.eval_batches("dev")) for text in batch.texts} == {
        "네 맞아요"
    }
    raw = {text for batch in taken(data.open_split("dev")) for text in batch.texts}
    assert raw == {"네 (아) 맞아요."}
    assert any(line.startswith("transcripts: ") for line in data.summary())


def test_a_finished_model_opens_what_is_asked_for_alone(folder: Path, tmp_path: Path) -> None:
    data = ready(
        folder,
        tmp_path,
        training=False,
        train="nemo:/gone.jsonl",
        features={"train": "/gone", "dev": str(folder / "features")},
    )
    by_name, by_uri = data.open_split("dev"), data.open_split(f"nemo:{folder / 'train.jsonl'}")
    assert same(taken(by_name), taken(by_uri)), "from the cache, and from audio"


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=0"):
        ready(folder, tmp_path, batch_size=0)
    with pytest.raises(ConfigError, match="min_seconds is 30 and max_seconds 25"):
        ready(folder, tmp_path, min_seconds=30)
    with pytest.raises(ConfigError, match="features of 'dec', which is no split; did you mean"):
        ready(folder, tmp_path, features={"dec": str(folder / "features")})
    with pytest.raises(ConfigError, match="right for one model only"):
        ready(folder, tmp_path, features=cached(folder, "encoded"))
    with pytest.raises(DataError, match="stored in float32, and bf16 is expected"):
        ready(folder, tmp_path, features=cached(folder, "features"), dtype="bf16")


def test_without_an_encoder_every_split_must_have_its_outputs(folder: Path, tmp_path: Path) -> None:
    network = model(folder)
    network.with_encoder = False
    encoded = cached(folder, "encoded")
    ready(folder, tmp_path, features=encoded, model=network)
    for features in (
        {"train": encoded["train"]},
        {**encoded, "dev": str(folder / "features")},
    ):
        with pytest.raises(ConfigError, match=r"with_encoder is off.*; dev has none"):
            ready(folder, tmp_path, features=features, model=network)
        ready(folder, tmp_path, features=features, model=network, training=False)


def test_a_cache_of_another_corpus_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other", [4.0, 5.0])
    other.write_text(other.read_text().replace("wavs/", "./wavs/"))
    with pytest.raises(DataError, match=r"is of another corpus than train .* none of 2 utterances"):
        ready(folder, tmp_path, train=f"nemo:{other}", features=cached(folder, "features"))
