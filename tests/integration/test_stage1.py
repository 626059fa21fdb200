"""Stage 1 through its commands: swaps, use of the model, replay, hand-over, dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import load_file

from core import evaluate, run, transcribe
from core.checkpoint.locate import resolve_checkpoint
from core.errors import CheckpointError, ConfigError, DataError
from tests.fixtures.plugins import TOY_PLUGIN, declare_plugin
from tests.integration.command import SMALL, STAGE1, sori

pytest.importorskip("espeakng_loader")

TRAIN = (STAGE1, *SMALL, "trainer.max_steps=4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "run"
    status = run.main([*TRAIN, "test=demo:test?utterances=5", "--run-dir", str(path)])
    assert status == 0
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stereo FLAC at 22,050 Hz: neither the rate nor the channels of training."""
    from components.datasets.demo import DemoSource

    source = DemoSource(location="test", utterances=5)
    source.open(None)
    samples = source.cut(0).load_audio()[0]
    path = tmp_path_factory.mktemp("audio") / "stereo.flac"
    soundfile.write(path, [[value, value / 2] for value in samples], 22050)
    return path


def test_a_run_directory_holds_what_is_promised(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"checkpoints", "config.json", "config.py", "config.txt", "metrics.jsonl"} <= names
    assert {"log.txt", "samples", "results.json", "assets", "status.json"} <= names
    results = json.loads((trained / "results.json").read_text())
    assert results["step"] == 4
    assert {"val/wer", "val/cer", "val/loss", "test/wer"} <= results.keys()
    checkpoint = resolve_checkpoint(trained, prefer="best")
    assert checkpoint.name.startswith("step_00000004-epoch")
    assert "-val" in checkpoint.name
    weights = load_file(checkpoint / "model.safetensors")
    assert any(name.startswith("encoder.") for name in weights)
    assert list((trained / "samples").glob("step_*/*.png"))


@pytest.mark.parametrize("target", ["run", "checkpoint"])
def test_transcribe_reads_any_rate_and_channels(
    target: str, trained: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained if target == "run" else resolve_checkpoint(trained, prefer="latest")
    assert transcribe.main([str(path), str(recording), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["id"] == str(recording)
    assert {"text", "tokens", "score"} <= row.keys()


def test_transcribe_names_the_files_it_cannot_read_and_goes_on(
    trained: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no sound in here")
    status = transcribe.main([str(trained), str(noise), str(recording), str(tmp_path / "gone.wav")])
    captured = capsys.readouterr()
    assert status == DataError.exit_code
    assert f"{noise}: not audio" in captured.err
    assert "gone.wav: missing file" in captured.err
    assert captured.out.startswith(f"{recording}\t")


def test_transcribe_takes_lists_and_sources_and_batches_change_nothing(
    trained: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, out = tmp_path / "list.txt", tmp_path / "out.jsonl"
    names.write_text(f"{recording}\n{recording}\ngone.wav\n")
    source = "demo:test?utterances=3"
    for size in ("1", "4"):
        arguments = [str(trained), f"@{names}", source, "--batch-size", size]
        assert transcribe.main([*arguments, "--output", str(out)]) == DataError.exit_code
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        heard = [row["text"] for row in rows if row["id"] == str(recording)]
        assert len(rows) == 6
        assert len(set(heard)) == 1
        assert [row["id"] for row in rows if "error" in row] == [str(tmp_path / "gone.wav")]
        assert sum("reference" in row for row in rows) == 3
        printed = capsys.readouterr().out.splitlines()
        assert printed == [f"{row['id']}\t{row['text']}" for row in rows if "text" in row]
    assert transcribe.main([str(trained)]) == ConfigError.exit_code
    assert transcribe.main([str(trained), "a.wav", "--batch-size", "0"]) == ConfigError.exit_code


def test_evaluate_reports_rates_edits_and_speakers(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    arguments = [str(trained), "demo:test?utterances=5", "test", "--json", str(out)]
    arguments += ["--output", str(tmp_path / "heard.jsonl")]
    assert evaluate.main(arguments) == 0
    printed = capsys.readouterr().out
    for word in ("WER", "CER", "speaker"):
        assert word in printed
    reports = json.loads(out.read_text())
    lines = (tmp_path / "heard.jsonl").read_text().splitlines()
    assert len(lines) == 10
    assert {"source", "id", "reference", "hypothesis"} <= json.loads(lines[0]).keys()
    direct, split = reports["demo:test?utterances=5"], reports["test"]
    assert direct == split
    assert direct["utterances"] == 5, "a text that the tokenizer cannot encode is scored as well"


def test_evaluate_with_another_decoder(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swap = ["--set", "task.decoder=@decoder/prefix_beam"]
    assert evaluate.main([str(trained), "demo:test?utterances=2", *swap]) == 0
    assert evaluate.main([str(trained), "nemo:nowhere.json"]) == DataError.exit_code
    assert evaluate.main([str(trained / "nowhere")]) == CheckpointError.exit_code
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    "swap",
    [
        ("task.encoder=@encoder/blstm", "**.dropout=0"),
        ("scheduler=@scheduler/noam", "scheduler.d_model=16"),
        ("task.tokenizer=@tokenizer/byte",),
        ("task.tokenizer=@tokenizer/bpe", "task.tokenizer.vocab_size=64"),
        ("optimizer=@optimizer/sgd",),
        ("trainer.precision=bf16", "task.features.num_bins=40"),
    ],
    ids=lambda swap: swap[0].split("/")[-1],
)
def test_swaps_from_the_command_line_train(swap: tuple[str, ...], tmp_path: Path) -> None:
    arguments = [STAGE1, *SMALL, "trainer.max_steps=2", "--run-dir", str(tmp_path / "run")]
    # A swapped encoder is sized by its own arguments.
    if "@encoder" in swap[0]:
        arguments = [token for token in arguments if not token.startswith("task.encoder")]
        arguments += ["task.encoder=@encoder/blstm", "task.encoder.layers=1"]
        swap = swap[1:]
    assert run.main([*arguments, *swap]) == 0


def test_a_component_of_a_plugin_is_listed_and_swapped_in(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    declare_plugin(site, distribution="toy-plugin", module="sori_toy_plugin")
    paths = ":".join([str(site), str(TOY_PLUGIN), str(Path(STAGE1).parents[1])])
    listed = sori("core.inspect", "encoder", cwd=tmp_path, PYTHONPATH=paths).stdout
    line = next(line for line in listed.splitlines() if "toy" in line)
    name = line.split()[0].split("/")[-1]
    arguments = [token for token in TRAIN if not token.startswith("task.encoder")]
    done = sori(
        "core.run",
        *arguments,
        f"task.encoder=@encoder/{name}",
        "--run-dir",
        tmp_path / "run",
        cwd=tmp_path,
        PYTHONPATH=paths,
    )
    assert f"@encoder/{name}" in done.stdout


def test_init_from_takes_weights_and_reports_the_match(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TRAIN[:-1], "trainer.max_steps=1", "optimizer.lr=0"]
    arguments += ["--run-dir", str(tmp_path / "run"), "--init-from", str(trained)]
    assert run.main(arguments) == 0
    assert "matched" in capsys.readouterr().out
    before = load_file(resolve_checkpoint(trained, prefer="best") / "model.safetensors")
    after = load_file(resolve_checkpoint(tmp_path / "run", prefer="latest") / "model.safetensors")
    for name, value in before.items():
        if value.is_floating_point() and "running" not in name:
            assert value.equal(after[name]), name


def test_from_run_replays_the_configuration(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["--from-run", str(trained), "--run-dir", str(tmp_path / "again")]
    assert run.main(again) == 0
    capsys.readouterr()
    assert (tmp_path / "again/config.txt").read_text() == (trained / "config.txt").read_text()
    results = [json.loads((d / "results.json").read_text()) for d in (trained, tmp_path / "again")]
    assert results[0] == results[1]


@pytest.mark.parametrize("scale", ["demo", "full"])
def test_dry_run_reads_and_writes_nothing(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main([STAGE1, f"scale={scale}", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "the configuration is valid" in printed
    assert "encoder" in printed
    assert list(tmp_path.iterdir()) == []


def test_the_six_refusals_come_together_and_read_well(capsys: pytest.CaptureFixture[str]) -> None:
    status = run.main(
        [
            STAGE1,
            "task.encoder.droput=0.2",
            "task.encodr.dim=64",
            "task.encoder.dim=abc",
            "task.encoder.layers=3.5",
            "trainer.precision=fp8",
            "task.encoder=@head/ctc",
            "optimizer.lr=1",
        ]
    )
    error = capsys.readouterr().err
    assert status == ConfigError.exit_code
    assert "6 problems in the configuration" in error
    for expected in (
        "'task.encoder.dropout'",
        "'task.encoder.dim'",
        "task.encoder.dim",
        "'abc'",
        "3.5",
        "int",
        "'bf16'",
        "takes an encoder",
        "head/ctc is a head",
        "stage1_ctc.py:",
    ):
        assert expected in error, error
    assert "optimizer.lr" not in error
