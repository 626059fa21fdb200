from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core import catalog
from core.errors import ConfigError, DataError
from core.prepare import KIND, main, verb_parser
from tests.fixtures.pair_files import read_rows, write_mel, write_pairs
from tests.integration.command import command, environment


def test_every_verb_makes_a_command_line_with_help_for_each_option() -> None:
    names = catalog.index().names(KIND)
    assert {"mel", "order", "pairs", "speakers"} <= set(names)
    for name in names:
        text = verb_parser(name).format_help()
        entry = catalog.index().find(KIND, name)
        for parameter in entry.parameters:
            assert parameter.doc, f"{entry.path} does not say what {parameter.name} is"
            assert parameter.name.replace("_", "-") in text or parameter.name.upper() in text


def test_required_arguments_go_by_place_and_the_rest_by_name() -> None:
    made = verb_parser("pairs").parse_args(["in.jsonl", "out.jsonl", "--max-pairs", "7", "--force"])
    assert (made.manifest, made.output) == (Path("in.jsonl"), Path("out.jsonl"))
    assert (made.max_pairs, made.force, made.seed) == (7, True, 2025)
    made = verb_parser("mel").parse_args(["in.jsonl", "--limit", "3", "--side", "both"])
    assert (made.limit, made.side, made.workers) == (3, "both", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--limit", "many"], "'many' is not of type int"),
        (["x", "--side", "targte"], "did you mean 'target'"),
        ([], "required: MANIFEST"),
    ],
)
def test_wrong_values_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        verb_parser("mel").parse_args(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'speakers'"):
        verb_parser("speaker")
    assert main(["speaker"]) == ConfigError.exit_code
    assert "no verb 'speaker'" in capsys.readouterr().err


def test_the_help_lists_verbs_and_does_not_load_torch(tmp_path: Path) -> None:
    code = "import sys, core.prepare as p\ntry: p.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert "order " in done.stdout
    assert done.stdout.strip().endswith("False")


def test_the_verbs_work_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_pairs(tmp_path, 12)
    write_mel(tmp_path, "T7")
    assert main(["order", str(manifest)]) == 0
    assert read_rows(manifest)[0]["target_id"] == "T7"
    output = tmp_path / "speakers.json"
    assert main(["speakers", str(manifest), str(output), "--min-samples", "1"]) == 0
    assert json.loads(output.read_text()) == {"S0": 0, "S1": 1, "S2": 2, "S3": 3}
    assert main(["speakers", str(manifest), str(output)]) == 4
    assert "DataError" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["order", "speakers", "mel"])
def test_a_place_that_cannot_be_written_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    manifest = write_pairs(tmp_path, 12)
    write_mel(tmp_path, "T7")
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "out"
    arguments = {
        "order": ["--output", str(place), "--mel", str(tmp_path / "mel")],
        "speakers": [str(place), "--all"],
        "mel": ["--mel", str(place)],
    }
    assert main([verb, str(manifest), *arguments[verb]]) == DataError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"DataError: {place}")
    assert line.endswith("Not a directory")


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    """In a process of its own: its workers have the limit too."""
    manifest = write_pairs(tmp_path, 1)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio/T0.wav", np.full(8000, 0.1), 22050)
    arguments = command("core.prepare", "mel", manifest, "--workers", "1")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stderr == f"DataError: {tmp_path / 'mel/T0.npy'}: File too large\n"
    assert done.returncode == DataError.exit_code
    assert list((tmp_path / "mel").iterdir()) == []
