from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.datasets.speech_pairs import SpeechPairData
from components.datasets.styled_corpus import DIM, LATENTS
from components.datasets.styled_pairs import StyledPairs
from components.datasets.styled_speech import TEXT_VOCAB
from core.contracts import UNMAPPED, RunContext, SpeechPairBatch
from core.data.pair_source import located
from core.data.speaker_mapping import read_mapping
from core.errors import ConfigError

pytest.importorskip("espeakng_loader")

OPTIONS = "?utterances=40"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMIT", "3")  # is of training, and must not stop the making of the corpus
        folder = tmp_path_factory.mktemp("cache")
        located(f"demo:train{OPTIONS}", folder)
    return folder


def rows(cache: Path, split: str) -> list[dict[str, Any]]:
    path = located(f"demo:{split}{OPTIONS}", cache)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def batches(cache: Path, split: str, tmp_path: Path) -> Iterable[SpeechPairBatch]:
    data = SpeechPairData(
        train=f"demo:train{OPTIONS}",
        validation={"val": f"demo:validation{OPTIONS}"},
        test={"unseen": f"demo:unseen{OPTIONS}"},
        speakers=f"demo:speakers{OPTIONS}",
        batch_size=8,
        cache_dir=str(cache),
    )
    data.setup(RunContext(assets=tmp_path, training=True, seed=0))
    return data.eval_batches(split)


def test_every_row_has_both_mels_a_style_and_another_prompt(cache: Path) -> None:
    for split in ("train", "validation", "probe", "unseen"):
        found = rows(cache, split)
        assert found
        folder = located(f"demo:{split}{OPTIONS}", cache).parent
        for row in found:
            assert row["target_id"] != row["prompt_id"]
            assert row["target_emotion"]
            assert row["prompt_emotion"]
            for field in ("target_mel_path", "prompt_mel_path", "prompt_condition_path"):
                assert (folder / row[field]).is_file()
            mel = np.load(folder / row["target_mel_path"], mmap_mode="r")
            assert mel.shape[1] == 80
            # 12.5 codes and 86 frames of mel a second.
            assert abs(row["target_code_len"] / 12.5 - mel.shape[0] * 256 / 22050) < 0.2


def test_it_trains_the_pair_data_as_it_is(cache: Path, tmp_path: Path) -> None:
    found = list(batches(cache, "val", tmp_path))
    assert sum(map(len, found)) == len(rows(cache, "validation"))
    for batch in found:
        assert not batch.skipped
        assert batch.condition.shape[1:] == (LATENTS, DIM)
        assert batch.mel is not None
        assert batch.text.values.max() < TEXT_VOCAB
        assert batch.codes.values.max() < 256
        assert (batch.speakers != UNMAPPED).all()


def test_unseen_voices_have_no_class(cache: Path, tmp_path: Path) -> None:
    assert all((b.speakers == UNMAPPED).all() for b in batches(cache, "unseen", tmp_path))
    mapping = read_mapping(located(f"demo:speakers{OPTIONS}", cache))
    assert set(mapping) == {row["speaker"] for row in rows(cache, "train")}


def test_latents_tell_the_voice(cache: Path) -> None:
    """A nearest mean over the training prompts finds the speaker of a probe's prompt."""
    folder = located(f"demo:train{OPTIONS}", cache).parent

    def latents(row: dict[str, Any]) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = np.load(folder / row["prompt_condition_path"])
        return array.ravel()

    train = rows(cache, "train")
    speakers = sorted({row["speaker"] for row in train})
    means = [np.mean([latents(r) for r in train if r["speaker"] == s], axis=0) for s in speakers]
    hits = [
        speakers[int(np.argmin([np.linalg.norm(latents(row) - mean) for mean in means]))]
        == row["speaker"]
        for row in rows(cache, "probe")
    ]
    assert np.mean(hits) > 0.9


def test_styles_differ_in_codes_and_pace(cache: Path) -> None:
    found = rows(cache, "train") + rows(cache, "probe")
    rates: dict[str, list[float]] = defaultdict(list)
    for row in found:
        rates[row["target_emotion"]].append(row["target_code_len"] / row["target_text_len"])
    pace = {style: np.mean(values) for style, values in rates.items()}
    assert 1.2 * pace["hurried"] < pace["neutral"] < pace["subdued"] / 1.15


def test_it_is_made_once_and_repaired(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = located(f"demo:probe{OPTIONS}", cache)
    capfd.readouterr()
    assert located(f"demo:probe{OPTIONS}", cache) == path
    assert not capfd.readouterr().err
    codes = path.parent / rows(cache, "probe")[0]["target_codes_path"]
    content = codes.read_bytes()
    codes.write_bytes(content[:-8])
    assert located(f"demo:probe{OPTIONS}", cache) == path
    assert "is missing or incomplete; making it again" in capfd.readouterr().err
    assert codes.read_bytes() == content, "made again, it is the same to the byte"


def test_what_is_no_uri_is_a_path(tmp_path: Path) -> None:
    assert located("folder/pairs.jsonl", None) == Path("folder/pairs.jsonl")
    assert located(str(tmp_path / "a:b.jsonl"), None) == tmp_path / "a:b.jsonl"
    assert located("~/pairs.jsonl", None) == Path.home() / "pairs.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo:trian", "there is no such part of the corpus; did you mean 'train'"),
        ("demo:train?utterance=4", "unknown option 'utterance'; did you mean 'utterances'"),
        ("demo:train?utterances=4", "utterances is 4, expected 10 or more"),
        ("demo:train?language=fr", "'fr' is not a choice"),
    ],
)
def test_a_wrong_uri_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        located(text, None)


def test_a_component_can_be_made_without_the_machine_speaking() -> None:
    assert StyledPairs(location="speakers").location == "speakers"
