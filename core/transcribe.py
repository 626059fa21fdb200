"""``python -m core.transcribe RUN audio...``: what a trained model hears in audio files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DataError, SoriError

if TYPE_CHECKING:
    from core.contracts import Transcript


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``core.transcribe``."""
    made = argparse.ArgumentParser(prog="python -m core.transcribe", description=__doc__)
    made.add_argument("run", type=Path, help="run directory or single checkpoint")
    made.add_argument("audio", nargs="+", type=Path, help="any files that soundfile reads")
    made.add_argument("--json", action="store_true", help="one JSON object a line, token times too")
    made.add_argument("--weights", choices=("best", "latest"), default="best")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override the saved config"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: that of a DataError if any file was not read."""
    options = parser().parse_args(arguments)
    try:
        return _main(options)
    except SoriError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


def _main(options: argparse.Namespace) -> int:
    from core.inference import file_batches, load_model, transcribed

    model = load_model(
        options.run, device=options.device, weights=options.weights, overrides=options.set
    )
    status = 0
    batches = file_batches(options.audio, sample_rate=model.task.sample_rate)
    for batch, transcripts in transcribed(model, batches):
        for skipped in batch.skipped:
            print(f"{skipped.id}: {skipped.reason}: {skipped.detail}", file=sys.stderr)
            status = DataError.exit_code
        for transcript in transcripts:
            print(_line(transcript, as_json=options.json), flush=True)
    return status


def _line(transcript: Transcript, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(asdict(transcript), ensure_ascii=False)
    return f"{transcript.id}\t{transcript.text}"


if __name__ == "__main__":
    sys.exit(main())
