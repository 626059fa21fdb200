"""NEST as NeMo 2.7.3 computes it: features, tokens, masks, encoder, loss and training steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.nemo.transfer import export_from, import_into
from components.optimizers.adamw import AdamW
from components.quantizers.random_projection import RandomProjectionQuantizer
from components.schedulers.noam import Noam
from components.tasks.masked_prediction import MaskedPredictionTask
from core.contracts import NoisySpeechBatch, Padded, RunContext
from core.dist.ranks import Ranks
from core.train.step import Stepper
from core.train.trainer import Trainer

GOLDEN = Path(__file__).parents[3] / "shared/golden/nest"
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")

WITHOUT_GRADIENT = ("linear_k.bias", "depthwise_conv.bias")
"""Their true gradient is zero, and Adam turns what rounding leaves of it into full steps."""


class GivenMasks(RandomBlockMasking):
    """Masks that are given instead of drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def draw(self, lengths: Tensor, **_: object) -> Tensor:  # type: ignore[override]
        """Return the next one."""
        return self.given.pop(0).bool()


def build(masking: RandomBlockMasking, state: dict[str, Tensor]) -> MaskedPredictionTask:
    """The mini model of the golden tensors, with NeMo's batch statistics over padding."""
    task = MaskedPredictionTask(
        features=LogMel(pad_to=16),
        masking=masking,
        quantizer=RandomProjectionQuantizer(codebook_size=64),
        encoder=ConformerEncoder(
            dim=32,
            layers=2,
            heads=4,
            kernel_size=9,
            subsampling=8,
            subsampling_method="dw_striding",
            subsampling_channels=8,
            dropout=0.0,
            attention_dropout=0.0,
            scale_input=True,
            batch_norm_over="all_frames",
        ),
        head=MultiSoftmaxHead(),
        loss=MaskedPredictionLoss(),
    )
    task.setup(RunContext(assets=Path("unused")))
    import_into(task, state)
    return task


def batch(clean: Tensor, noisy: Tensor, lengths: Tensor) -> NoisySpeechBatch:
    return NoisySpeechBatch(
        ids=tuple(str(row) for row in range(len(clean))),
        sample_rate=16000,
        clean_audio=Padded(values=clean, lengths=lengths),
        noisy_audio=Padded(values=noisy, lengths=lengths),
    )


@torch.no_grad()
def test_one_batch_from_audio_to_loss() -> None:
    golden = load_file(GOLDEN / "mini_io.safetensors")
    task = build(RandomBlockMasking(), load_file(GOLDEN / "mini_state.safetensors")).eval()
    torch.manual_seed(133)  # of the golden masks
    prepared = task.prepare(batch(golden["audio"], golden["noisy_audio"], golden["audio_len"]))
    lengths = golden["noisy_feats_len"]
    assert torch.equal(prepared.lengths, lengths)
    torch.testing.assert_close(
        prepared.features, golden["noisy_feats"].transpose(1, 2), atol=1e-4, rtol=0
    )
    assert torch.equal(prepared.mask.float(), golden["masks_time"])
    assert torch.equal(prepared.counted, golden["frame_mask"].bool())
    assert torch.equal(prepared.targets[prepared.valid], golden["tokens"][prepared.valid])
    masked = task.masking(prepared.features, prepared.mask)
    torch.testing.assert_close(masked, golden["masked_feats"].transpose(1, 2), atol=1e-4, rtol=0)
    hidden, sizes = task.encoder(golden["masked_feats"].transpose(1, 2), lengths)
    assert torch.equal(sizes, golden["encoded_len"])
    for row, size in enumerate(sizes.tolist()):
        expected = golden["encoded"][row, :, :size].T
        torch.testing.assert_close(hidden[row, :size], expected, atol=1e-5, rtol=0)
        log_probs = task.head(hidden[row : row + 1, :size]).log_softmax(-1).transpose(2, 3)
        torch.testing.assert_close(log_probs[0], golden["log_probs"][row, :size], atol=1e-5, rtol=0)
    loss = task.step(prepared)["masked_prediction"]
    assert float(loss.total / loss.count) == pytest.approx(float(golden["loss"]), abs=1e-5)


def test_four_training_steps() -> None:
    golden = load_file(GOLDEN / "mini_train.safetensors")
    masking = GivenMasks()
    task = build(masking, load_file(GOLDEN / "mini_train_init_state.safetensors"))
    masking.given = [golden[f"masks_time.{step}"] for step in range(4)]
    task.train()
    optimizer = AdamW(lr=0.05, weight_decay=1e-3, decay="all")(task)
    schedule = Noam(d_model=32, warmup_steps=4, offset=1)
    stepper = Stepper(
        task=task,
        optimizer=optimizer,
        trainer=Trainer(max_steps=4, clip_norm=None),
        ranks=Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu")),
    )
    for step in range(4):
        rate = 0.05 * schedule.factor(step + 1, None)
        assert rate == pytest.approx(float(golden["lrs"][step]), rel=1e-9)
        for group in optimizer.param_groups:
            group["lr"] = rate
        audio, noisy = golden[f"audio.{step}"], golden[f"noisy.{step}"]
        report = stepper([batch(audio, noisy, golden["audio_len"])], stop=False)
        assert report.objective == pytest.approx(float(golden["losses"][step]), abs=1e-5)
        if step == 0:
            check_gradients(task, golden)
    check_final_weights(task, golden)


def check_gradients(task: MaskedPredictionTask, golden: dict[str, Tensor]) -> None:
    """Compare gradients by NeMo's names: the export of a task whose weights are its gradients."""
    moved = {name: p.detach().clone() for name, p in task.named_parameters()}
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.grad is not None:
                parameter.copy_(parameter.grad)
    exported = export_from(task)
    compared = 0
    for name, expected in golden.items():
        if name.startswith("grad.") and not name.endswith(WITHOUT_GRADIENT):
            found = exported[name.removeprefix("grad.")]
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-3, msg=name)
            compared += 1
    assert compared > 60
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            parameter.copy_(moved[name])


def check_final_weights(task: MaskedPredictionTask, golden: dict[str, Tensor]) -> None:
    exported = export_from(task)
    compared = 0
    for name, expected in golden.items():
        if not name.startswith("final.") or name.endswith(WITHOUT_GRADIENT):
            continue
        found = exported[name.removeprefix("final.")]
        if name.endswith("num_batches_tracked"):
            continue  # a counter that nothing reads
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0, msg=name)
        compared += 1
    assert compared > 80
