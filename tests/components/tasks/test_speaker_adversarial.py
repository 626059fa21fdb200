from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.adversary.emotion_bound import EmotionBound
from components.adversary.ensemble import SpeakerAdversary
from components.adversary.lambda_schedules import ConstantLambda
from components.adversary.speaker_classifier import SpeakerClassifier
from components.models.unified_voice import UnifiedVoice
from components.tasks.speaker_adversarial import SpeakerAdversarialTask
from core.contracts import UNMAPPED, Padded, PairReader, RunContext, SpeechPairBatch
from core.data.speaker_mapping import SPEAKERS
from core.errors import ConfigError, DataError
from tests.components.models.tiny import TINY

BRANCH = ("emo_conditioning_encoder", "emo_perceiver_encoder", "emovec_layer", "emo_layer")
LATENTS, DIM, BINS = TINY["num_latents"], TINY["dim"], TINY["emotion_features"]


def build(assets: Path, **changes: Any) -> SpeakerAdversarialTask:
    (assets / SPEAKERS).write_text(json.dumps({f"s{n}": n for n in range(3)}))
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "model": UnifiedVoice(**TINY),
        "adversary": SpeakerAdversary(
            classifier=SpeakerClassifier(hidden=8, dropout=0.0),
            schedule=ConstantLambda(value=0.7),
            members=2,
        ),
        "bound": EmotionBound(bound="rms"),
    }
    task = SpeakerAdversarialTask(**(settings | changes))
    task.setup(RunContext(assets=assets))
    if task.adversary is not None:
        task.adversary.reversal.advance()  # the factor is 0 at step 0
    task.model.double()  # bound and classifiers are float32 in any run
    return task


def batch(
    rows: int = 3, *, extra: int = 0, speakers: tuple[int, ...] = (0, 1, 2)
) -> SpeechPairBatch:
    """Rows of different lengths; ``extra`` adds padding that must not matter."""
    generator = torch.Generator().manual_seed(1)

    def padded(lengths: list[int], high: int) -> Padded:
        values = torch.zeros(rows, max(lengths) + extra, dtype=torch.int64)
        for row, length in enumerate(lengths):
            values[row, :length] = torch.randint(2, high, (length,), generator=generator)
        return Padded(values=values, lengths=torch.tensor(lengths))

    text = padded([5, 3, 4], 60)
    codes = padded([9, 12, 7], 100)
    frames = [40, 33, 21]
    mel = torch.zeros(rows, max(frames) + extra, BINS, dtype=torch.float64)
    for row, length in enumerate(frames):
        mel[row, :length] = torch.randn(length, BINS, generator=generator, dtype=torch.float64)
    condition = torch.randn(rows, LATENTS, DIM, generator=generator, dtype=torch.float64)
    return SpeechPairBatch(
        ids=tuple(str(row) for row in range(rows)),
        text=text,
        codes=codes,
        condition=condition,
        mel=Padded(values=mel, lengths=torch.tensor(frames)),
        emotion=None,
        speakers=torch.tensor(speakers),
    )


def gradients(task: SpeakerAdversarialTask, objective: Tensor) -> dict[str, Tensor]:
    task.zero_grad()
    objective.backward()
    return {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}


def total(task: SpeakerAdversarialTask, name: str, given: SpeechPairBatch) -> Tensor:
    loss = task.step(given)[name]
    return loss.total * loss.weight / torch.as_tensor(loss.count)


def test_the_speaker_loss_reaches_the_emotion_branch_reversed_and_scaled(tmp_path: Path) -> None:
    task = build(tmp_path).eval()  # no dropout; the reversal works all the same
    found = gradients(task, total(task, "speaker_loss", batch()))
    adversary = task.adversary
    assert adversary is not None
    emotion = task.emotion(batch())
    scores = [member.score(emotion, batch().speakers).total for member in adversary.members]  # type: ignore[operator]
    plain = gradients(task, torch.stack(scores).mean() / 3)
    reached = [name for name in plain if name.startswith("model.")]
    assert reached
    assert all(name.split(".")[1] in BRANCH for name in reached)
    for name in reached:
        torch.testing.assert_close(found[name], -0.7 * 0.1 * plain[name], atol=1e-7, rtol=1e-4)
    assert max(plain[name].abs().max() for name in reached) > 0


def test_the_language_losses_reach_the_emotion_branch_and_frozen_parts_get_nothing(
    tmp_path: Path,
) -> None:
    task = build(tmp_path)
    found = gradients(task, total(task, "semantic_loss", batch()))
    for part in BRANCH:
        assert any(name.startswith(f"model.{part}.") and g.any() for name, g in found.items()), part
    frozen = ("model.conditioning_encoder.", "model.perceiver_encoder.", "adversary.")
    for name, parameter in task.named_parameters():
        assert parameter.requires_grad is not name.startswith(frozen), name
        if name.startswith(frozen):
            assert name not in found


def test_noise_is_between_the_vector_and_the_gpt_in_training_alone(tmp_path: Path) -> None:
    task, quiet = build(tmp_path, emotion_noise=0.5), build(tmp_path)
    quiet.load_state_dict(task.state_dict())
    noisy, plain = task.step(batch()), quiet.step(batch())
    assert not torch.equal(noisy["semantic_loss"].total, plain["semantic_loss"].total)
    assert torch.equal(noisy["speaker_loss"].total, plain["speaker_loss"].total)
    task.eval()
    quiet.eval()
    for name, value in quiet.evaluate(batch()).items():
        assert torch.equal(
            torch.as_tensor(task.evaluate(batch())[name].total), torch.as_tensor(value.total)
        ), name
    with pytest.raises(ConfigError, match="emotion_noise must be at least 0"):
        build(tmp_path, emotion_noise=-1.0)


def test_padding_in_a_batch_changes_neither_the_vector_nor_a_loss(tmp_path: Path) -> None:
    task = build(tmp_path).eval()
    short, long = batch(), batch(extra=17)
    torch.testing.assert_close(task.emotion(short), task.emotion(long), atol=1e-6, rtol=1e-5)
    for name in task.loss_names:
        left, right = total(task, name, short), total(task, name, long)
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        task.emotion(alone())[0], task.emotion(short)[1], atol=1e-6, rtol=1e-5
    )


def alone() -> SpeechPairBatch:
    """Return the second row of the batch, without padding."""
    whole = batch()
    return replace(
        whole,
        ids=("1",),
        text=Padded(values=whole.text.values[1:2, :3], lengths=whole.text.lengths[1:2]),
        codes=Padded(values=whole.codes.values[1:2], lengths=whole.codes.lengths[1:2]),
        condition=whole.condition[1:2],
        mel=Padded(values=_mel(whole)[1:2, :33], lengths=torch.tensor([33])),
        speakers=whole.speakers[1:2],
    )


def _mel(given: SpeechPairBatch) -> Tensor:
    assert given.mel is not None
    return given.mel.values


def test_counts_are_tokens_with_their_stop_and_mapped_rows(tmp_path: Path) -> None:
    task = build(tmp_path)
    given = batch(speakers=(0, UNMAPPED, 2))
    counts = {name: count.item() for name, count in task.counts(given).items()}
    assert counts == {
        "text_loss": 5 + 3 + 4 + 3,
        "semantic_loss": 9 + 12 + 7 + 3,
        "speaker_loss": 2,
        "norm_penalty": 3,
    }
    losses = task.step(given)
    assert {name: float(loss.count) for name, loss in losses.items()} == counts


def test_only_the_classifiers_learn_while_they_pre_train(tmp_path: Path) -> None:
    adversary = SpeakerAdversary(
        classifier=SpeakerClassifier(hidden=8), schedule=ConstantLambda(), pretrain_steps=5
    )
    task = build(tmp_path, adversary=adversary)
    assert all(count.item() == 0 for count in task.counts(batch()).values())
    before = adversary.members[0].input.weight.clone()  # type: ignore[union-attr,operator]
    read: list[object] = []
    task.model.gpt.register_forward_hook(lambda *_: read.append(_))
    task.train()
    losses = task.step(batch())
    found = gradients(task, torch.stack([loss.total for loss in losses.values()]).sum())
    assert found.keys() == {n for n, p in task.named_parameters() if p.requires_grad}
    assert not any(gradient.any() for gradient in found.values())
    assert not read, "the GPT is run for nothing"
    task.after_step(finite=True)
    assert not torch.equal(adversary.members[0].input.weight, before)  # type: ignore[union-attr,arg-type]


def test_rows_without_mel_take_the_stored_vector_and_reach_every_parameter(tmp_path: Path) -> None:
    task = build(tmp_path, bound=EmotionBound(bound="none")).eval()
    given = batch()
    stored = torch.full((3, DIM), 0.5, dtype=torch.float64)
    assert given.mel is not None
    mel = replace(given.mel, lengths=torch.tensor([40, 0, 21]))
    mixed = task.emotion(replace(given, mel=mel, emotion=stored))
    torch.testing.assert_close(mixed[1], stored[1])
    torch.testing.assert_close(mixed[0], task.emotion(given)[0], atol=1e-6, rtol=1e-5)
    without = replace(given, mel=None, emotion=stored, speakers=torch.full((3,), UNMAPPED))
    losses = task.step(without)
    found = gradients(task, torch.stack([loss.total for loss in losses.values()]).sum())
    assert found.keys() == {n for n, p in task.named_parameters() if p.requires_grad}
    with pytest.raises(DataError, match="neither mel nor a stored emotion vector"):
        task.emotion(replace(without, emotion=None))


def test_evaluation_does_not_depend_on_batching_and_measures_the_use_of_the_vector(
    tmp_path: Path,
) -> None:
    task = build(tmp_path, adversary=None).eval()
    with torch.no_grad():
        whole = task.evaluate(batch())
        again = task.evaluate(batch(extra=9))
    for name in ("loss", "text_loss", "semantic_loss", "emotion_use"):
        left, right = whole[name], again[name]
        torch.testing.assert_close(
            torch.as_tensor(left.total), torch.as_tensor(right.total), atol=1e-6, rtol=1e-5
        )
    rows = float(whole["loss"].total) / 3
    assert 0 < rows < 10
    assert float(whole["emotion_use"].total) != 0.0


def test_a_row_that_is_alone_tells_nothing_of_the_use_of_the_vector(tmp_path: Path) -> None:
    task = build(tmp_path, adversary=None).eval()
    with torch.no_grad():
        whole, single = task.evaluate(batch()), task.evaluate(alone())
    assert (float(single["emotion_use"].total), float(single["emotion_use"].count)) == (0.0, 0.0)
    assert float(whole["emotion_use"].count) == 9 + 12 + 7 + 3
    assert float(single["semantic_loss"].count) == 12 + 1


def test_the_form_of_its_rows_is_known_before_setup_and_is_all_that_can_be_read(
    tmp_path: Path,
) -> None:
    bare = SpeakerAdversarialTask(
        model=UnifiedVoice(**TINY), adversary=None, bound=EmotionBound(bound="none")
    )
    assert isinstance(bare, PairReader)
    form = bare.pair_form()
    assert form.latents == (LATENTS, DIM)
    model = build(tmp_path).model
    assert not set(form.text.reserved) - set(range(model.text_embedding.num_embeddings))
    assert form.text.reserved == (model.text_start, model.text_stop)
    assert form.text.size == TINY["text_vocab"]
    codes = range(model.mel_embedding.num_embeddings)
    assert (*range(form.codes.size), *form.codes.reserved) == tuple(codes)


def test_a_run_without_a_mapping_is_told_how_to_make_one(tmp_path: Path) -> None:
    task = SpeakerAdversarialTask(
        model=UnifiedVoice(**TINY),
        adversary=SpeakerAdversary(classifier=SpeakerClassifier(), schedule=ConstantLambda()),
        bound=EmotionBound(),
    )
    with pytest.raises(DataError, match="to know the speakers: set data"):
        task.setup(RunContext(assets=tmp_path))


def test_freezing_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no submodule 'perceiver'; did you mean"):
        build(tmp_path, freeze=("perceiver",))
