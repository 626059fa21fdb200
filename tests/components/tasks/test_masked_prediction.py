from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.quantizers.random_projection import RandomProjectionQuantizer
from components.tasks.masked_prediction import MaskedPredictionTask
from core.contracts import NoisySpeechBatch, Padded, RunContext
from core.errors import ConfigError

RATE = 8000


def build(seed: int = 0, **changes: Any) -> MaskedPredictionTask:
    torch.manual_seed(0)
    encoder: dict[str, Any] = {
        "dim": 16,
        "layers": 1,
        "heads": 2,
        "kernel_size": 5,
        "subsampling": 8,
        "subsampling_method": "dw_striding",
        "subsampling_channels": 16,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    encoder |= changes.pop("encoder", {})
    parts: dict[str, Any] = {
        "features": LogMel(sample_rate=RATE, num_bins=16),
        "masking": RandomBlockMasking(block_size=16, mask_prob=0.05),
        "quantizer": RandomProjectionQuantizer(codebook_size=20, num_books=2),
        "encoder": ConformerEncoder(**encoder),
        "head": MultiSoftmaxHead(),
        "loss": MaskedPredictionLoss(),
    }
    task = MaskedPredictionTask(**(parts | changes))
    task.setup(RunContext(assets=Path("unused"), seed=seed))
    return task


def batch(lengths: list[int], *, noise: float = 0.1, ids: str = "abcdefgh") -> NoisySpeechBatch:
    clean = torch.zeros(len(lengths), max(lengths))
    noisy = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(ord(ids[row]))
        clean[row, :length] = torch.randn(length, generator=generator)
        noisy[row, :length] = clean[row, :length] + noise * torch.randn(length, generator=generator)
    sizes = torch.tensor(lengths)
    return NoisySpeechBatch(
        ids=tuple(ids[: len(lengths)]),
        sample_rate=RATE,
        clean_audio=Padded(values=clean, lengths=sizes),
        noisy_audio=Padded(values=noisy, lengths=sizes),
    )


def value(metrics: dict[str, Any], name: str) -> tuple[float, float]:
    total, count = torch.as_tensor(metrics[name].total), torch.as_tensor(metrics[name].count)
    return float(total.detach()), float(count)


def test_an_utterance_gives_the_same_figures_alone_and_in_a_padded_batch() -> None:
    task = build(encoder={"conv_norm": "layer_norm"}).eval()
    lengths = [16000, 8001, 4000]
    together = task.evaluate(batch(lengths))
    alone = [task.evaluate(batch([n], ids="abc"[row])) for row, n in enumerate(lengths)]
    for name in ("loss", "accuracy", "counted_share"):
        for part in (0, 1):
            parts = sum(value(metrics, name)[part] for metrics in alone)
            assert value(together, name)[part] == pytest.approx(parts, rel=1e-5)
    assert value(together, "loss")[1] > 0


def test_evaluation_masks_depend_on_the_utterance_and_the_seed_alone() -> None:
    task = build().eval()
    first = task.evaluate(batch([16000, 8000]))
    torch.manual_seed(123)
    again = task.evaluate(batch([16000, 8000]))
    assert value(first, "loss") == value(again, "loss")
    other = build(seed=1).eval()
    assert value(other.evaluate(batch([16000, 8000])), "loss") != value(first, "loss")


def test_targets_are_those_of_clean_speech_whatever_the_noise() -> None:
    task = build()
    quiet, loud = (task.prepare(batch([9000, 5000], noise=noise)) for noise in (0.0, 3.0))
    assert torch.equal(quiet.targets, loud.targets)
    assert not torch.equal(quiet.features, loud.features)


def test_gradient_is_that_of_the_mean_over_counted_targets() -> None:
    task = build()
    torch.manual_seed(1)
    prepared = task.prepare(batch([16000, 9000]))
    count = task.counts(prepared)["masked_prediction"]
    loss = task.step(prepared)["masked_prediction"]
    assert count.item() == float(prepared.counted.sum()) * 2 == float(loss.count)
    hidden, _ = task.encoder(task.masking(prepared.features, prepared.mask), prepared.lengths)
    log_probs = task.head(hidden).log_softmax(-1)
    picked = log_probs.gather(-1, prepared.targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(loss.total, -picked[prepared.counted].sum())
    accuracy = task.train_metrics()["accuracy"]
    hits = (log_probs.argmax(-1) == prepared.targets)[prepared.counted].sum()
    assert (int(accuracy.total), float(accuracy.count)) == (int(hits), count.item())


def test_every_trainable_parameter_learns_and_no_frozen_one_does() -> None:
    task = build()
    torch.manual_seed(1)
    loss = task.step(task.prepare(batch([16000, 12000])))["masked_prediction"]
    loss.total.backward()
    for name, parameter in task.named_parameters():
        frozen = name.startswith(("quantizer.", "masking."))
        assert parameter.requires_grad is not frozen, name
        assert (parameter.grad is None) is frozen, name


@pytest.mark.parametrize("lengths", [[79], [80], [400], [640, 81], [1], [300, 16000]])
def test_short_speech_neither_crashes_nor_gives_nan(lengths: list[int]) -> None:
    """Less than a frame, than a subsampling factor of eight frames, than a block of sixteen."""
    for training in (True, False):
        task = build().train(training)
        prepared = task.prepare(batch(lengths))
        loss = task.step(prepared)["masked_prediction"]
        loss.total.backward()
        assert torch.isfinite(loss.total)
        for parameter in task.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()
        assert all(torch.isfinite(torch.tensor(value(task.evaluate(batch(lengths)), "loss"))))


def test_speech_shorter_than_a_block_is_counted() -> None:
    task = build()
    task.step(task.prepare(batch([16000, 1600, 1604])))  # 20 and 20 frames; a block is 16
    assert value(task.train_metrics(), "short_share") == (2.0, 3.0)


def test_without_a_counted_target_loss_and_gradient_are_zero() -> None:
    task = build()
    prepared = task.prepare(batch([400]))  # five frames: masked, but fewer than seven of eight
    assert prepared.mask.any()
    loss = task.step(prepared)["masked_prediction"]
    loss.total.backward()
    assert (loss.total.item(), float(loss.count)) == (0.0, 0.0)
    assert task.counts(prepared)["masked_prediction"].item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in task.parameters())


def test_silence_is_finite() -> None:
    task = build()
    silent = Padded(values=torch.zeros(2, 8000), lengths=torch.tensor([8000, 4000]))
    speech = NoisySpeechBatch(
        ids=("a", "b"), sample_rate=RATE, clean_audio=silent, noisy_audio=silent
    )
    loss = task.step(task.prepare(speech))["masked_prediction"]
    assert torch.isfinite(loss.total)


def test_features_computed_beforehand_give_what_their_audio_gives() -> None:
    task = build().eval()
    heard = batch([16000, 9000])
    assert heard.clean_audio is not None
    assert heard.noisy_audio is not None
    clean = task.features(heard.clean_audio.values, heard.clean_audio.lengths)
    noisy = task.features(heard.noisy_audio.values, heard.noisy_audio.lengths)
    given = NoisySpeechBatch(
        ids=heard.ids,
        sample_rate=RATE,
        clean_features=Padded(values=clean[0], lengths=clean[1]),
        noisy_features=Padded(values=noisy[0], lengths=noisy[1]),
    )
    assert value(task.evaluate(given), "loss") == value(task.evaluate(heard), "loss")


def test_a_causal_encoder_predicts_the_same_targets() -> None:
    task = build(encoder={"causal_subsampling": True, "conv_context": "causal"})
    torch.manual_seed(1)
    prepared = task.prepare(batch([16000, 9000]))
    hidden, _ = task.encoder(prepared.features, prepared.lengths)
    assert hidden.shape[1] == prepared.targets.shape[1] + 1
    loss = task.step(prepared)["masked_prediction"]
    assert float(loss.count) == float(prepared.counted.sum()) * 2


def test_each_hidden_state_must_have_one_target() -> None:
    with pytest.raises(ConfigError, match=r"stack=4 must equal the encoder's subsampling of 8"):
        build(quantizer=RandomProjectionQuantizer(stack=4))


def test_pictures_and_audio_are_made_for_as_many_utterances_as_asked() -> None:
    pytest.importorskip("matplotlib")
    task = build().eval()
    with torch.no_grad():
        artifacts = task.artifacts(batch([16000, 9000]), limit=1)
    assert [a.name for a in artifacts] == ["clean/a", "noisy/a", "masked/a"]


def tones(count: int, seed: int) -> NoisySpeechBatch:
    """Utterances of one of four notes each: a hidden stretch sounds like what is around it."""
    generator = torch.Generator().manual_seed(seed)
    notes = torch.tensor([300.0, 700.0, 1300.0, 2300.0])
    hertz = notes[torch.randint(0, 4, (count, 1), generator=generator)]
    time = torch.arange(8000) / RATE
    audio = 0.3 * torch.sin(2 * torch.pi * hertz * time)
    audio = audio + 0.01 * torch.randn(audio.shape, generator=generator)
    padded = Padded(values=audio, lengths=torch.full((count,), 8000))
    return NoisySpeechBatch(
        ids=tuple(f"{seed}-{row}" for row in range(count)),
        sample_rate=RATE,
        clean_audio=padded,
        noisy_audio=padded,
    )


def learnt_accuracy(*, hide_all: bool) -> float:
    task = build(
        features=LogMel(sample_rate=RATE, num_bins=16, normalization="per_utterance"),
        masking=RandomBlockMasking(block_size=16, mask_prob=0.05, hide_all=hide_all),
        quantizer=RandomProjectionQuantizer(codebook_size=20),
    )
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    for step in range(80):
        loss = task.step(task.prepare(tones(8, step)))["masked_prediction"]
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    with torch.no_grad():
        hits, count = value(task.eval().evaluate(tones(64, 1000)), "accuracy")
    return hits / count


def test_hidden_targets_are_learnt_from_what_is_heard_and_not_from_nothing() -> None:
    heard, blind = learnt_accuracy(hide_all=False), learnt_accuracy(hide_all=True)
    assert heard > 0.65
    assert blind < 0.5
