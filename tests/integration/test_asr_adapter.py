"""The adapter experiment by its commands, on a small base that knows nothing yet."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")
pytest.importorskip("mistral_common")
pytest.importorskip("espeakng_loader")

from components.speech_llm.tiny import write_tiny
from core.checkpoint.format import read_model, read_optimizer
from core.checkpoint.locate import resolve_checkpoint
from tests.integration.command import REPO, kill_at_step, repeatable_metrics, sori

ADAPTER = str(REPO / "experiments" / "asr_adapter.py")
STEPS = 6
SMALL = (
    "train=clinic:train?utterances=32",
    "validation=clinic:validation?utterances=4",
    "test=clinic:test?utterances=4",
    "base=base",
    "+no_aim",
    "data.batch_size=2",
    "trainer.threads=1",
    "trainer.accumulation=2",
    f"trainer.max_steps={STEPS}",
    "trainer.log_every=1",
    "trainer.validate_every=3",
    "callbacks.4.every=2",
    "task.model.max_new_tokens=4",
)
FORMS = {
    "float32": ("data.workers=0",),
    "nf4": (
        "data.workers=2",
        "task.model.quantization=nf4",
        "task.model.dtype=bf16",
        "task.model.gradient_checkpointing=true",
        "trainer.precision=bf16",
    ),
}


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("adapter")
    write_tiny(made / "base", hidden=64, layers=1)
    return made


@pytest.fixture(scope="module")
def whole(form: str, folder: Path) -> Path:
    """A run that nothing interrupted."""
    train(form, folder, run=f"whole-{form}")
    return folder / f"whole-{form}"


def arguments(form: str, run: str) -> tuple[str, ...]:
    return (ADAPTER, *SMALL, *FORMS[form], "--run-dir", run)


def train(form: str, folder: Path, *, run: str) -> str:
    return sori("core.run", *arguments(form, run), cwd=folder, HF_HUB_OFFLINE="1").stdout


def test_a_killed_run_ends_as_one_that_was_not(form: str, whole: Path, folder: Path) -> None:
    name = f"killed-{form}"
    status = kill_at_step(
        3,
        *arguments(form, name),
        cwd=folder,
        run=folder / name,
        number=signal.SIGKILL,
        HF_HUB_OFFLINE="1",
    )
    assert status == -signal.SIGKILL
    assert "resume  step_0000000" in train(form, folder, run=name)
    ends = [resolve_checkpoint(run, prefer="latest") for run in (whole, folder / name)]
    weights = [read_model(end) for end in ends]
    assert len(weights[0]) == 4
    assert all("lora_" in key for key in weights[0])
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
    moments = [read_optimizer(end)["state"] for end in ends]
    for index, state in moments[0].items():
        assert all(torch.equal(v, moments[1][index][k]) for k, v in state.items())
    assert repeatable_metrics(whole) == repeatable_metrics(folder / name)


def test_the_run_logs_what_it_learns_and_what_it_costs(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    seen = {name for row in rows for name in row}
    assert {
        "train/ce",
        "train/token_accuracy",
        "train/grad_norm",
        "speed/tokens_per_second",
        "speed/host_memory_gib",
        *(f"val/{n}{b}" for n in ("loss", "cer", "wer") for b in ("", "_unadapted")),
        *(f"test/{n}{b}" for n in ("loss", "cer", "wer") for b in ("", "_unadapted")),
    } <= seen
    norms = [row["train/grad_norm"] for row in rows if "train/grad_norm" in row]
    assert len(norms) == STEPS
    assert min(norms) > 0, "after the evaluation at step 3 too"
    baseline = {row["val/loss_unadapted"] for row in rows if "val/loss_unadapted" in row}
    assert len(baseline) == 1, "the base does not change"
    shown = (whole / "samples" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["step"] for line in shown} == {3, 6}
    assert all("un-adapted: " in json.loads(line)["text"] for line in shown)


def test_the_run_is_evaluated_beside_its_base(form: str, whole: Path, folder: Path) -> None:
    if form != "float32":
        pytest.skip("once is enough")
    done = sori("core.evaluate", whole, "--json", "scores.json", cwd=folder, HF_HUB_OFFLINE="1")
    assert "un-adapted" in done.stdout
    scores = json.loads((folder / "scores.json").read_text())["test"]
    results = json.loads((whole / "results.json").read_text())
    assert scores["cer"]["rate"] == pytest.approx(results["test/cer"])
    assert scores["unadapted"]["cer"]["rate"] == pytest.approx(results["test/cer_unadapted"])


def test_another_base_under_the_same_name_is_refused(
    form: str, whole: Path, folder: Path, tmp_path: Path
) -> None:
    if form != "float32":
        pytest.skip("once is enough")
    write_tiny(tmp_path / "base", hidden=64, layers=1, seed=1)
    done = sori(
        "core.evaluate",
        whole,
        "--set",
        f"task.model.base={tmp_path / 'base'}",
        cwd=folder,
        expect=None,
        HF_HUB_OFFLINE="1",
    )
    assert done.returncode != 0
    assert "is not the base model that this adapter was trained on" in done.stderr
