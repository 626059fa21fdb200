"""From pre-training to Stage 1, between runs, and out to NeMo's form: through the commands."""

from __future__ import annotations

from pathlib import Path

import fiddle as fdl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.quantizers.random_projection import RandomProjectionQuantizer
from components.tasks.masked_prediction import MaskedPredictionTask
from core import export, run
from core.checkpoint.locate import resolve_checkpoint
from core.checkpoint.store import CheckpointStore
from core.config import snapshot
from core.contracts import RunContext
from core.errors import CheckpointError, ConfigError
from experiments.stage1_ctc import experiment
from tests.integration.command import SMALL, STAGE1

pytest.importorskip("espeakng_loader")

QUICK = (
    STAGE1,
    *(token for token in SMALL if not token.startswith("task.encoder")),
    "trainer.max_steps=1",
    "optimizer.lr=0",
)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training run of one tiny model: its configuration and a checkpoint, averaged too."""
    config = experiment()
    config.name = "tiny_ssl"
    config.task = fdl.Config(
        MaskedPredictionTask,
        features=fdl.Config(LogMel, dither=1e-5, num_bins=40),
        masking=fdl.Config(RandomBlockMasking),
        quantizer=fdl.Config(RandomProjectionQuantizer, codebook_size=32),
        encoder=fdl.Config(
            ConformerEncoder,
            dim=16,
            layers=2,
            heads=2,
            kernel_size=5,
            subsampling=8,
            subsampling_method="dw_striding",
            subsampling_channels=4,
            scale_input=True,
        ),
        head=fdl.Config(MultiSoftmaxHead),
        loss=fdl.Config(MaskedPredictionLoss),
    )
    config.data.tokenizer = None  # nothing is transcribed
    directory = tmp_path_factory.mktemp("pretrained") / "ssl"
    directory.mkdir()
    snapshot.save(config, directory, header={})
    task = fdl.build(config.task)
    assert isinstance(task, nn.Module)
    torch.manual_seed(9)
    task.setup(RunContext(assets=directory))  # type: ignore[operator]
    averaged = {name: value + 1 for name, value in task.state_dict().items()}
    CheckpointStore(directory / "checkpoints").save(
        step=5,
        epoch=0,
        metrics={"val/loss": 1.0},
        model=task.state_dict(),
        ema=averaged,
        state={},
        config_dir=directory,
    )
    return directory


def encoder_of(run_directory: Path, file: str = "model.safetensors") -> dict[str, Tensor]:
    checkpoint = resolve_checkpoint(run_directory, prefer="latest")
    tensors = load_file(checkpoint / file)
    return {
        name: value
        for name, value in tensors.items()
        if name.startswith("encoder.") and "running" not in name
    }


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_stage1_starts_from_the_pretrained_encoder_and_goes_on(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*QUICK, "--runs", str(tmp_path), "--init-from", str(pretrained)]
    assert run.main(command) == 0
    printed = capsys.readouterr().out
    (made,) = tmp_path.iterdir()
    assert same(encoder_of(made), encoder_of(pretrained, "ema.safetensors"))
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    checkpoint = resolve_checkpoint(pretrained, prefer="best")
    (encoder,) = [line for line in lines if line.startswith("taken encoder:")]
    assert encoder.startswith("taken encoder: 82 tensors, ")
    assert f"weights from {checkpoint}, averaged:" in printed
    assert "fresh head: the file's is @head/multi_softmax, this model's @head/ctc" in lines
    assert "not used quantizer: 2 tensors in the file" in lines
    assert f"features and encoder are configured as in {pretrained}" in printed
    assert "a tokenizer of 128 pieces in place of characters" in printed
    saved = snapshot.load(made)
    assert saved.task.features.dither == 1e-5
    assert saved.task.encoder.subsampling == 8
    assert saved.task.augmentation is not None
    assert snapshot.read_header(made)["knobs"]["encoder_from"] == str(pretrained)
    assert run.main(command) == 0
    assert "this run is finished" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [made]


def test_the_same_architecture_from_scratch_is_a_run_of_its_own(
    pretrained: Path, tmp_path: Path
) -> None:
    knob = f"encoder_from={pretrained}"
    assert run.main([*QUICK, knob, "--runs", str(tmp_path)]) == 0
    (scratch,) = tmp_path.iterdir()
    assert not same(encoder_of(scratch), encoder_of(pretrained, "ema.safetensors"))
    assert run.main([*QUICK, knob, "--runs", str(tmp_path), "--init-from", str(pretrained)]) == 0
    (started,) = set(tmp_path.iterdir()) - {scratch}
    assert same(encoder_of(started), encoder_of(pretrained, "ema.safetensors"))
    assert (started / "config.txt").read_text() == (scratch / "config.txt").read_text()
    again = [*QUICK, "--run-dir", str(started), knob]
    assert run.main([*again, "--init-from", str(scratch)]) == ConfigError.exit_code


def test_overrides_win_and_what_then_does_not_fit_is_refused(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*QUICK, "--runs", str(tmp_path), "--init-from", str(pretrained)]
    assert run.main([*command, "task.encoder.dropout=0.3", "--dry-run"]) == 0
    assert "task.encoder.dropout: 0.3" in capsys.readouterr().out.splitlines()
    assert run.main([*command, "task.encoder.layers=3"]) == CheckpointError.exit_code
    error = capsys.readouterr().err
    assert "not in file   encoder.layers.2.norm_out: weight, bias" in error
    assert "task.encoder.layers: 2 -> 3" in error


def test_a_run_without_an_encoder_or_no_run_at_all_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*QUICK, f"encoder_from={tmp_path}/gone"]) == ConfigError.exit_code
    assert f"encoder_from={tmp_path}/gone" in capsys.readouterr().err
    status = run.main([*QUICK, "--init-from", str(tmp_path / "model.nemo")])
    assert status == CheckpointError.exit_code
    assert f"nemo:{tmp_path}/model.nemo" in capsys.readouterr().err
    assert run.main([*QUICK, "--init-from", "neemo:model.nemo"]) == ConfigError.exit_code
    assert "did you mean 'nemo'" in capsys.readouterr().err


def test_out_to_nemo_and_back_into_stage1(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.nemo"
    assert export.main([str(pretrained), f"nemo:{out}"]) == 0
    printed = capsys.readouterr().out
    assert "MaskedPredictionTask" in printed
    assert f"{out}: NeMo archive" in printed
    assert "99 tensors, " in printed
    runs = tmp_path / "runs"
    command = [*QUICK, f"encoder_from={pretrained}", "--runs", str(runs)]
    assert run.main([*command, "--init-from", f"nemo:{out}"]) == 0
    printed = capsys.readouterr().out
    assert f"weights from nemo:{out}:" in printed
    (made,) = runs.iterdir()
    assert same(encoder_of(made), encoder_of(pretrained, "ema.safetensors"))
    # A run that transcribes has a head that NeMo's model has not.
    assert export.main([str(made), f"nemo:{tmp_path}/stage1.safetensors"]) == 0
    printed = capsys.readouterr().out
    assert "without counterpart in NeMo: head.weight, head.bias" in printed
    assert export.main([str(made), str(tmp_path / "x.nemo")]) == ConfigError.exit_code
    assert f"such as 'nemo:{tmp_path}/x.nemo'" in capsys.readouterr().err


def test_between_runs_a_head_of_another_vocabulary_stays_fresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [STAGE1, *SMALL, *QUICK[-2:]]
    assert run.main([*small, "--run-dir", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    other = [*small, "task.tokenizer=@tokenizer/byte", "--run-dir", str(tmp_path / "b")]
    assert run.main([*other, "--init-from", str(tmp_path / "a")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    (head,) = [line for line in lines if line.startswith("fresh head: another vocabulary: ")]
    assert head.endswith(" here")
    assert same(encoder_of(tmp_path / "a"), encoder_of(tmp_path / "b"))
    same_words = [*small, "--run-dir", str(tmp_path / "c"), "--init-from", str(tmp_path / "a")]
    assert run.main(same_words) == 0
    assert "taken     head: 2 tensors" in capsys.readouterr().out
