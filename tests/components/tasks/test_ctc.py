"""The CTC task: counts, padding, decoding, long audio."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.augmentations.spec_augment import SpecAugment
from components.decoders.greedy import GreedyDecoder
from components.decoders.windows import windowed_logits
from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.ctc import CTCHead
from components.losses.ctc import CTCLoss
from components.tasks.ctc import CTCTask
from components.tokenizers.character import CharacterTokenizer
from core.contracts import RunContext, SpeechBatch
from core.errors import ConfigError

TEXTS = ("one two", "삼 사", "nine")


def task(*, norm: str = "batch_norm", window_seconds: float = 30.0) -> CTCTask:
    torch.manual_seed(0)
    tokenizer = CharacterTokenizer()
    tokenizer.fit(TEXTS)
    made = CTCTask(
        features=LogMel(),
        encoder=ConformerEncoder(
            dim=16,
            layers=2,
            heads=2,
            kernel_size=7,
            subsampling_channels=4,
            dropout=0.0,
            attention_dropout=0.0,
            conv_norm=norm,
        ),
        head=CTCHead(),
        loss=CTCLoss(),
        tokenizer=tokenizer,
        decoder=GreedyDecoder(),
        window_seconds=window_seconds,
    )
    made.setup(RunContext(assets=Path(".")))
    return made


def batch(made: CTCTask, rows: tuple[int, ...] = (0, 1, 2), *, padding: int = 0) -> SpeechBatch:
    generator = torch.Generator().manual_seed(1)
    audio = [torch.randn(size, generator=generator) * 0.1 for size in (16000, 9000, 24000)]
    chosen = [audio[row] for row in rows]
    targets = [torch.tensor(made.tokenizer.encode(TEXTS[row])) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
    return SpeechBatch(
        ids=tuple(f"u{row}" for row in rows),
        audio=torch.nn.functional.pad(padded, (0, padding)),
        audio_lengths=torch.tensor([len(samples) for samples in chosen]),
        targets=torch.nn.utils.rnn.pad_sequence(targets, batch_first=True),
        target_lengths=torch.tensor([len(ids) for ids in targets]),
        sample_rate=16000,
        texts=tuple(TEXTS[row] for row in rows),
        speakers=(None,) * len(rows),
    )


def test_counts_are_those_of_the_step() -> None:
    made = task()
    given = batch(made)
    assert set(made.counts(given)) == set(made.loss_names)
    count = made.counts(given)["ctc"]
    loss = made.step(given)["ctc"]
    assert float(count) == float(loss.count) == sum(len(text) for text in TEXTS)
    assert made.train_metrics()["infeasible"].total == 0


@torch.no_grad()
def test_a_batch_is_the_sum_of_its_utterances_in_evaluation() -> None:
    made = task().eval()
    together = made.evaluate(batch(made, padding=5000))
    alone = [made.evaluate(batch(made, (row,))) for row in range(3)]
    for name in ("loss", "wer", "cer"):
        expected = sum(float(metrics[name].total) for metrics in alone)
        assert float(together[name].total) == pytest.approx(expected, rel=1e-5)
        assert float(together[name].count) == sum(float(m[name].count) for m in alone)


def test_padding_changes_no_gradient() -> None:
    gradients = []
    for padding in (0, 7000):
        made = task()
        made.step(batch(made, padding=padding))["ctc"].total.backward()
        gradients.append({name: p.grad for name, p in made.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_an_utterance_without_alignment_has_no_weight() -> None:
    made = task().eval()
    given = batch(made, (1,))
    too_long = torch.ones(1, 200, dtype=torch.int64)
    impossible = SpeechBatch(
        ids=given.ids,
        audio=given.audio,
        audio_lengths=given.audio_lengths,
        targets=too_long,
        target_lengths=torch.tensor([200]),
        sample_rate=16000,
        texts=("x",),
    )
    assert float(made.counts(impossible)["ctc"]) == 0.0
    loss = made.step(impossible)["ctc"]
    assert float(loss.total.detach()) == 0.0
    assert made.train_metrics()["infeasible"].total == 1


def test_transcripts_have_token_times_inside_the_audio() -> None:
    made = task().eval()
    given = batch(made)
    for transcript, size in zip(made.transcribe(given), given.audio_lengths.tolist(), strict=True):
        assert made.tokenizer.decode(made.tokenizer.encode(transcript.text)) == transcript.text
        for token in transcript.tokens:
            assert 0 <= token.start < token.end <= size / 16000 + 0.04
            assert 0 < token.probability <= 1


def test_alignment_spells_the_reference() -> None:
    made = task().eval()
    with torch.no_grad():
        aligned = made.align(batch(made))
    for tokens, text in zip(aligned, TEXTS, strict=True):
        assert [token.token for token in tokens] == [
            made.tokenizer.token(index) for index in made.tokenizer.encode(text)
        ]


@torch.no_grad()
def test_windows_cover_long_audio_once_and_agree_where_context_suffices() -> None:
    # An encoder that sees little context makes the comparison exact away from the edges.
    torch.manual_seed(0)
    made = task(window_seconds=1.0)
    made.features.normalization = "none"
    for layer in made.encoder.layers:
        layer.attention.forward = lambda x, *_, **__: torch.zeros_like(x)  # type: ignore[method-assign]
    made.eval()
    audio = torch.randn(1, 5 * 16000 + 777) * 0.1
    lengths = torch.tensor([audio.shape[1]])
    whole, frames = made._logits(audio, lengths)
    joined, joined_frames = windowed_logits(
        made._logits,
        audio,
        lengths,
        window=made._samples(1.0),
        context=made._samples(0.48),
        samples_per_frame=made._samples_per_frame,
    )
    assert joined_frames.tolist() == frames.tolist()
    torch.testing.assert_close(joined[0], whole[0, : int(frames[0])], rtol=1e-4, atol=1e-4)


def test_artifacts_show_sound_picture_and_text() -> None:
    made = task().eval()
    with torch.no_grad():
        shown = made.artifacts(batch(made), limit=2)
    kinds = {artifact.kind for artifact in shown}
    assert kinds == {"text", "audio", "image"}
    assert {artifact.name.split("/")[-1] for artifact in shown} == {"u0", "u1"}
    for artifact in shown:
        if artifact.kind == "image":
            assert artifact.value.dtype.name == "uint8"
            assert artifact.value.std() > 10, "a picture is not one colour"


def test_augmentation_touches_training_only() -> None:
    made = task()
    made.augmentation = SpecAugment(frequency_masks=4, frequency_width=60)
    given = batch(made)
    torch.manual_seed(1)
    first = float(made.step(given)["ctc"].total.detach())
    second = float(made.step(given)["ctc"].total.detach())
    assert first != second
    made.eval()
    assert float(made.evaluate(given)["loss"].total) == float(made.evaluate(given)["loss"].total)


def test_consistency_takes_two_views_in_training_only() -> None:
    made = task()
    given = batch(made)
    plain = made.step(given)["ctc"]
    made.loss.consistency = 0.5
    same = made.step(given)["ctc"]  # without augmentation and dropout both views are one
    torch.testing.assert_close(same.total, plain.total, rtol=1e-5, atol=0)
    assert float(same.count) == float(plain.count)
    torch.manual_seed(0)
    made.augmentation = SpecAugment(frequency_width=60, time_share=0.5)
    consistent = made.step(given)["ctc"]
    torch.manual_seed(0)
    made.loss.consistency = 1e-9
    alone = made.step(given)["ctc"]
    assert float(consistent.total.detach() - alone.total.detach()) > 1e-3
    assert float(consistent.count) == float(plain.count)
    made.eval()
    assert made.loss.views == 1


def test_header_names_the_loss_backend() -> None:
    assert task().summary() == ["loss linear_ctc_loss, backend torch (auto, on cpu)"]


def test_a_backend_that_cannot_run_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    made = task()
    made.loss.backend = "triton"
    with pytest.raises(ConfigError, match=r"loss backend: .*'triton' cannot run: needs CUDA"):
        made.summary()
