"""The adapter's task on a random tiny Voxtral, whose adapter is drawn so that it does something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("peft")
pytest.importorskip("mistral_common")

from components.features.whisper import WhisperFeatures
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from components.tasks.speech_adapter import SpeechAdapterTask
from components.text.normalizer import TextNormalizer
from core.contracts import Adapted, FeatureBatch, RunContext, SpeechBatch
from core.errors import ConfigError, DataError
from tests.components.speech_llm.other_families import write_family

Make = Callable[..., SpeechAdapterTask]
SECONDS = (1.0, 31.0, 2.5)
TEXTS = ("머리가 아파요", "기침이 나고, 열이 나요.", "no")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def make(tiny: Path, tmp_path: Path) -> Make:
    def made(*, base: Path = tiny, **settings: Any) -> SpeechAdapterTask:
        torch.manual_seed(0)
        model = SpeechLLM(
            base=str(base),
            lora=LoRA(dropout=0.0),
            quantization="none",
            dtype="float32",
            max_new_tokens=6,
        )
        task = SpeechAdapterTask(**{"model": model, "language": "ko", **settings})
        task.setup(RunContext(assets=tmp_path))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in task.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5, generator=generator)
        return task.eval()

    return made


@pytest.fixture(scope="module")
def audio() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        (torch.randn(round(16000 * s), generator=generator) * 0.1).clamp(-1, 1) for s in SECONDS
    )


@pytest.fixture(scope="module")
def stored(audio: tuple[Tensor, ...]) -> FeatureBatch:
    found = [WhisperFeatures()(each) for each in audio]
    return FeatureBatch(
        ids=("a", "b", "c"),
        texts=TEXTS,
        chunks=tuple(len(each) for each in found),
        samples=torch.tensor([len(each) for each in audio]),
        sample_rate=16000,
        chunk_seconds=30.0,
        features=torch.cat(found),
    )


def heard(audio: tuple[Tensor, ...]) -> SpeechBatch:
    lengths = torch.tensor([len(each) for each in audio])
    return SpeechBatch(
        ids=("a", "b", "c"),
        audio=torch.nn.utils.rnn.pad_sequence(list(audio), batch_first=True),
        audio_lengths=lengths,
        targets=torch.zeros((3, 0), dtype=torch.int64),
        target_lengths=torch.zeros(3, dtype=torch.int64),
        sample_rate=16000,
        texts=TEXTS,
    )


def encoded(task: SpeechAdapterTask, batch: FeatureBatch) -> FeatureBatch:
    assert batch.features is not None
    return replace(batch, features=None, encoded=task.model.encode(batch.features))


def alone(batch: FeatureBatch, row: int) -> FeatureBatch:
    first = sum(batch.chunks[:row])
    assert batch.features is not None
    return replace(
        batch,
        ids=batch.ids[row : row + 1],
        texts=batch.texts[row : row + 1],
        chunks=batch.chunks[row : row + 1],
        samples=batch.samples[row : row + 1],
        features=batch.features[first : first + batch.chunks[row]],
    )


def test_audio_features_and_encoder_outputs_give_one_loss_and_one_text(
    make: Make, audio: tuple[Tensor, ...], stored: FeatureBatch
) -> None:
    task = make()
    forms = (heard(audio), stored, encoded(task, stored))
    totals = [task.step(batch)["ce"].total for batch in forms]
    assert torch.equal(totals[0], totals[1])
    assert torch.equal(totals[0], totals[2])
    texts = [[t.text for t in task.transcribe(batch)] for batch in forms]
    assert texts[0] == texts[1] == texts[2]
    assert any(texts[0])


def test_an_utterance_gives_the_same_alone_and_in_a_batch(make: Make, stored: FeatureBatch) -> None:
    task = make()
    singles = [alone(stored, row) for row in range(3)]
    with torch.no_grad():
        together = task.evaluate(stored)
        apart = [task.evaluate(single) for single in singles]
    for name, sums in together.items():
        total = sum(float(each[name].total) for each in apart)
        assert float(sums.total) == pytest.approx(total, rel=1e-5), name
        assert float(sums.count) == sum(float(each[name].count) for each in apart)
    texts = [task.transcribe(single)[0].text for single in singles]
    assert [t.text for t in task.transcribe(stored)] == texts


def test_targets_are_the_bytes_of_the_texts_and_their_ends(
    make: Make, stored: FeatureBatch
) -> None:
    task = make()
    expected = sum(len(text.encode()) + 1 for text in TEXTS)
    assert float(task.counts(stored)["ce"]) == expected
    assert float(task.step(stored)["ce"].count) == expected
    accuracy = task.train_metrics()["token_accuracy"]
    assert float(accuracy.count) == expected
    assert 0 <= float(accuracy.total) < expected


def test_gradients_reach_the_adapter_alone(make: Make, stored: FeatureBatch) -> None:
    task = make().train()
    task.step(stored)["ce"].total.backward()
    reached = {name for name, p in task.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in task.named_parameters() if p.requires_grad}
    assert len(reached) == 4
    assert all("lora_" in name for name in reached)
    assert all(float(p.grad.abs().max()) > 0 for p in task.parameters() if p.grad is not None)
    assert set(task.state_dict()) == reached


def test_every_figure_stands_beside_that_of_the_base(make: Make, stored: FeatureBatch) -> None:
    task = make()
    assert isinstance(task, Adapted)
    found = task.evaluate(stored)
    with task.unadapted():
        base = SpeechAdapterTask(model=task.model, language="ko").evaluate(stored)
    for name in ("loss", "cer", "cer_without_spaces", "wer"):
        assert float(found[f"{name}_unadapted"].total) == float(base[name].total)
        assert float(found[f"{name}_unadapted"].count) == float(found[name].count) > 0
    assert float(found["loss"].total.detach()) != float(found["loss_unadapted"].total)


def test_the_base_hears_a_batch_once_however_often_it_is_validated(
    make: Make, stored: FeatureBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make()
    first = task.evaluate(stored)
    generated = 0
    generate = task.model.generate

    def counting(*arguments: Any, **named: Any) -> list[str]:
        nonlocal generated
        generated += 1
        return generate(*arguments, **named)

    monkeypatch.setattr(task.model, "generate", counting)
    assert task.evaluate(stored)["cer_unadapted"] == first["cer_unadapted"]
    assert generated == 1
    task.evaluate(alone(stored, 0))
    assert generated == 3, "another batch is another question"


def test_long_audio_is_transcribed_part_by_part(make: Make, stored: FeatureBatch) -> None:
    task = make()
    long = alone(stored, 1)
    assert long.chunks == (2,)
    assert long.features is not None
    parts = [
        task.transcribe(
            replace(
                long,
                chunks=(1,),
                samples=torch.tensor([samples]),
                features=long.features[chunk : chunk + 1],
            )
        )[0].text
        for chunk, samples in enumerate((480_000, 16_000))
    ]
    assert task.transcribe(long)[0].text == " ".join(filter(None, parts))
    (whole,) = make(prompt_chunks=2).transcribe(long)
    assert (
        whole.text
        == task.model.generate(task.model.encode(long.features), (2,), "ko", samples=long.samples)[
            0
        ]
    )


@pytest.fixture(scope="module")
def short_sighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a base that takes one chunk, and is told where audio ends."""
    return write_family(tmp_path_factory.mktemp("qwen"), "qwen3_asr")


def test_a_family_of_one_chunk_hears_long_audio_as_recordings_of_30_s(
    make: Make, short_sighted: Path, audio: tuple[Tensor, ...]
) -> None:
    task = make(base=short_sighted)
    batch = heard(audio)
    parts = [part for each in audio for part in each.split(480_000)]
    assert len(parts) == 4
    lengths = torch.tensor([len(part) for part in parts])
    divided = replace(
        batch,
        ids=tuple("abcd"),
        audio=torch.nn.utils.rnn.pad_sequence(parts, batch_first=True),
        audio_lengths=lengths,
        targets=torch.zeros((4, 0), dtype=torch.int64),
        target_lengths=torch.zeros(4, dtype=torch.int64),
        texts=("",) * 4,
    )
    first, second, third, last = (found.text for found in task.transcribe(divided))
    expected = [first, " ".join(filter(None, (second, third))), last]
    assert [found.text for found in task.transcribe(batch)] == expected
    assert any(expected)


def test_a_family_of_one_chunk_hears_long_features(
    make: Make, short_sighted: Path, stored: FeatureBatch
) -> None:
    task = make(base=short_sighted)
    assert len(task.transcribe(stored)) == 3
    with pytest.raises(DataError, match=r"2 chunks of 30 s; Qwen3-ASR takes 1: cut .* 'model'"):
        task.step(stored)
    with pytest.raises(ConfigError, match="prompt_chunks is 2, and Qwen3-ASR takes 1"):
        make(base=short_sighted, prompt_chunks=2)


def test_both_texts_are_scored_in_normal_form(
    make: Make, stored: FeatureBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["머리가 아파요.", "기침이 나고 열이 나요", "no!"]
    scores = {}
    for form in (None, TextNormalizer()):
        task = make(text=form)
        batch = replace(alone(stored, 0), texts=TEXTS[:1])
        monkeypatch.setattr(task.model, "generate", lambda *_, **__: said[:1])
        scores[form is None] = task.evaluate(batch)
    assert float(scores[True]["cer"].total) == 1
    assert float(scores[False]["cer"].total) == 0
    assert float(scores[True]["wer"].total) == 1
    report = make(text=TextNormalizer()).error_report()
    report.add(id="b", reference=TEXTS[1], hypothesis=said[1])
    assert report.as_dict()["cer"]["errors"] == 0
    assert report.as_dict()["as_written"]["cer"]["errors"] == 2


def test_artifacts_show_what_is_heard_with_and_without_the_adapter(
    make: Make, stored: FeatureBatch
) -> None:
    task = make()
    shown = task.artifacts(stored, limit=2)
    assert [artifact.name for artifact in shown] == ["text/a", "text/b"]
    texts = [t.text for t in task.transcribe(stored)]
    with task.unadapted():
        before = [t.text for t in task.transcribe(stored)]
    for row, artifact in enumerate(shown):
        assert artifact.value == (
            f"reference:  {TEXTS[row]}\nadapted:    {texts[row]}\nun-adapted: {before[row]}"
        )
    assert texts[:2] != before[:2]


def test_what_cannot_be_is_refused(make: Make, stored: FeatureBatch) -> None:
    with pytest.raises(ConfigError, match="prompt_chunks: expected at least 1, got 0"):
        make(prompt_chunks=0)
    with pytest.raises(DataError, match="neither"):
        make().step(replace(stored, features=None))


def test_a_language_that_cannot_be_asked_for_is_told_before_weights_are_read(
    make: Make, short_sighted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("components.speech_llm.speech_llm.load_base", loaded)
    with pytest.raises(ConfigError, match=r"task\.language: .*'korean'.*did you mean 'ko'"):
        make(language="korean")
    with pytest.raises(ConfigError, match=r"task\.language: Qwen3-ASR .*set language"):
        make(base=short_sighted, language=None)
    with pytest.raises(ConfigError, match=r"task\.language: Qwen3-ASR has no language 'sw'"):
        make(base=short_sighted, language="sw")
