"""``python -m core.transcribe RUN audio...``: what a trained model hears in audio."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, DataError
from core.jsonlines import Write, json_lines
from core.model_command import exit_status, load_from, model_parser

if TYPE_CHECKING:
    from core.contracts import FeatureBatch, SpeechBatch, Transcript
    from core.inference import Heard, Model


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``core.transcribe``."""
    made = model_parser("core.transcribe", __doc__)
    made.add_argument(
        "audio",
        nargs="*",
        help="audio files, @FILE for a list of them, sources such as nemo:test.jsonl",
    )
    made.add_argument(
        "--list", action="append", default=[], metavar="FILE", help="one audio path a line"
    )
    made.add_argument("--batch-size", type=int, default=8, metavar="N", help="files at once (8)")
    made.add_argument("--output", type=Path, metavar="FILE", help="write results as JSON lines")
    made.add_argument("--json", action="store_true", help="one JSON object a line, token times too")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: that of a DataError if any audio was not read."""
    return exit_status(_main, parser().parse_intermixed_args(arguments))


def _main(options: argparse.Namespace) -> int:
    from core.inference import heard
    from core.listing import expand

    if options.batch_size < 1:
        raise ConfigError(f"--batch-size {options.batch_size}: expected 1 or more")
    given = [*options.audio, *(f"@{path}" for path in options.list)]
    if not given:
        raise ConfigError("name an audio file, @FILE or --list FILE, or a source to transcribe")
    inputs = list(expand(given))
    model = load_from(options)
    status = 0
    with json_lines(options.output) as write:
        for named in inputs:
            for item in heard(model, _batches(model, named, options.batch_size)):
                for skipped in item.batch.skipped:
                    print(f"{skipped.id}: {skipped.reason}: {skipped.detail}", file=sys.stderr)
                    write({"id": skipped.id, "error": f"{skipped.reason}: {skipped.detail}"})
                    status = DataError.exit_code
                _tell(item, write, as_json=options.json)
    return status


def _batches(
    model: Model, item: list[Path] | str, batch_size: int
) -> Iterable[SpeechBatch | FeatureBatch]:
    from core.inference import file_batches

    if isinstance(item, str):
        return model.data.open_split(item)
    return file_batches(item, sample_rate=model.task.sample_rate, batch_size=batch_size)


def _tell(item: Heard, write: Write, *, as_json: bool) -> None:
    """Print each transcript and write it, with its reference where the source has one."""
    for row, transcript in enumerate(item.transcripts):
        record = _record(transcript)
        if (reference := item.reference(row)) is not None:
            record["reference"] = reference
        write(record)
        line = json.dumps(record, ensure_ascii=False) if as_json else None
        print(line or f"{transcript.id}\t{' '.join(transcript.text.split())}", flush=True)


def _record(transcript: Transcript) -> dict[str, Any]:
    """Return a transcript for JSON; a model without scores has neither score nor token times."""
    record = asdict(transcript)
    if transcript.score is None:
        del record["score"]
        if not transcript.tokens:
            del record["tokens"]
    return record


if __name__ == "__main__":
    sys.exit(main())
