"""The demo's base, made in a few steps: what it is like, not what it has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("espeakng_loader")

from components.speech_llm import base as bases
from components.speech_llm import demo_base
from components.speech_llm.base import DEMO_BASE, load_base
from components.speech_llm.demo_base import ensure_demo_base, silence_counts, sinusoids
from components.speech_llm.lora import LoRA
from components.speech_llm.memory import outline_lines


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def _few_utterances() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        whole = demo_base._corpus
        patch.setattr(demo_base, "_corpus", lambda split, _: whole(split, 8))
        yield


@pytest.fixture(scope="module")
def made(cache: Path) -> Path:
    return ensure_demo_base(cache, steps=2)


def test_it_is_a_voxtral_that_was_trained_once(made: Path, cache: Path, tiny: Path) -> None:
    before = (made / "model.safetensors").read_bytes()
    assert ensure_demo_base(cache, steps=2) == made
    assert (made / "model.safetensors").read_bytes() == before
    trained, fresh = (load_base(str(f), dtype="float32").model for f in (made, tiny))
    moved = {
        name
        for (name, one), other in zip(trained.named_parameters(), fresh.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert moved == {name for name, _ in trained.named_parameters()}
    assert list(made.parent.glob("*.part-*")) == []


def test_the_same_seed_gives_the_same_weights_on_any_number_of_threads(
    made: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = ensure_demo_base(tmp_path, steps=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert again.name == made.name
    assert (again / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()


def test_a_damaged_one_is_made_again(
    cache: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "tekken.json").unlink()
    assert ensure_demo_base(cache, steps=2) == made
    assert "tekken.json missing; making it again" in capsys.readouterr().err
    assert (made / "tekken.json").is_file()


def test_its_name_stands_for_it_wherever_a_base_is_named(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_base, "ensure_demo_base", lambda: made)
    folder, family = bases.find_base(DEMO_BASE)
    assert folder == made
    assert family.model_type == "voxtral"
    assert any("368,448" in line for line in outline_lines(DEMO_BASE, LoRA()))


def test_silence_counts_late_and_in_the_end_in_full() -> None:
    assert silence_counts(0.0) == silence_counts(0.6) == pytest.approx(1e-3)
    assert silence_counts(0.675) == pytest.approx(1e-3**0.5)
    assert silence_counts(0.75) == silence_counts(1.0) == pytest.approx(1.0)


def test_positions_are_whispers() -> None:
    found = sinusoids(1500, 64)
    assert found.shape == (1500, 64)
    assert torch.equal(found[0], torch.cat([torch.zeros(32), torch.ones(32)]))
    assert float(found[7, 0]) == pytest.approx(0.6569866)
    assert float(found[1000, 31]) == pytest.approx(0.0998334, abs=1e-4), "period 2 pi 10,000"
