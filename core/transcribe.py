"""``python -m core.transcribe RUN audio...``: what a trained model hears in audio files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DataError
from core.model_command import exit_status, load_from, model_parser

if TYPE_CHECKING:
    from core.contracts import Transcript


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``core.transcribe``."""
    made = model_parser("core.transcribe", __doc__)
    made.add_argument("audio", nargs="+", type=Path, help="any files that soundfile reads")
    made.add_argument("--json", action="store_true", help="one JSON object a line, token times too")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: that of a DataError if any file was not read."""
    return exit_status(_main, parser().parse_args(arguments))


def _main(options: argparse.Namespace) -> int:
    from core.inference import file_batches, transcribed

    model = load_from(options)
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
