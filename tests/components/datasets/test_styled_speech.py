from __future__ import annotations

from collections import Counter

import pytest

from components.datasets.styled_speech import (
    FIRST_WORD,
    SPLITS,
    STYLES,
    TEXT_VOCAB,
    StyledParameters,
    plan,
    text_ids,
    words,
)


def parameters(utterances: int = 480, language: str = "en", seed: int = 0) -> StyledParameters:
    return StyledParameters(language=language, utterances=utterances, seed=seed)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_splits_share_what_they_should_and_nothing_else(language: str) -> None:
    planned = plan(parameters(language=language))
    voices = {s: {u.job.voice for u in planned if u.split == s} for s in SPLITS}
    texts = {s: {u.job.text for u in planned if u.split == s} for s in SPLITS}
    assert voices["train"] == voices["validation"] == voices["probe"]
    assert len(voices["train"]) == 24
    assert len(voices["unseen"]) == 8
    variants = {s: {voice.partition("+")[2] for voice in voices[s]} for s in SPLITS}
    assert not variants["unseen"] & variants["train"], "an accent does not make another speaker"
    for split in ("validation", "probe", "unseen"):
        assert not texts["train"] & texts[split]
    assert not texts["validation"] & texts["probe"]
    assert len({u.id for u in planned}) == len(planned)
    assert len({u.job.index for u in planned}) == len(planned)


def test_every_voice_speaks_in_every_style_alike() -> None:
    planned = [u for u in plan(parameters()) if u.split == "train"]
    counts = Counter((u.job.voice, u.style) for u in planned)
    assert len(counts) == 24 * len(STYLES)
    assert set(counts.values()) == {4}


def test_a_style_is_how_it_is_said() -> None:
    planned = plan(parameters())
    rates = {s: [u.job.rate for u in planned if u.style == s] for s in STYLES}
    assert max(rates["subdued"]) < min(rates["neutral"])
    assert max(rates["neutral"]) < min(rates["hurried"])
    assert {u.style for u in planned if u.job.emphasis} == {"emphatic"}
    ranges = {u.style: u.job.pitch_range for u in planned}
    assert ranges["subdued"] < ranges["neutral"] < ranges["lively"]


def test_the_plan_follows_from_its_parameters() -> None:
    assert plan(parameters()) == plan(parameters())
    assert plan(parameters()) != plan(parameters(seed=1))


def test_a_small_corpus_has_pairs_in_every_split() -> None:
    counts = Counter((u.split, u.job.voice) for u in plan(parameters(utterances=20)))
    assert min(counts.values()) == 2
    assert len({voice for split, voice in counts if split == "unseen"}) == 2


@pytest.mark.parametrize("language", ["en", "ko"])
def test_text_ids_are_one_to_one_and_leave_room_for_start_and_stop(language: str) -> None:
    table = words(language)
    assert len(set(table.values())) == len(table)
    texts = {u.job.text for u in plan(parameters(language=language))}
    ids = {tuple(text_ids(text, table)) for text in texts}
    assert len(ids) == len(texts)
    assert {i for text in ids for i in text} <= set(range(FIRST_WORD, TEXT_VOCAB))
