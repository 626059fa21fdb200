"""``python -m core.evaluate RUN [SOURCE...]``: error rates of a trained model, or probes of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, DataError
from core.jsonlines import Write, json_lines, text_file
from core.model_command import exit_status, load_from, model_parser

if TYPE_CHECKING:
    from core.contracts import ErrorReport
    from core.inference import Model

_WORST = 10


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``core.evaluate``."""
    made = model_parser("core.evaluate", __doc__)
    made.add_argument(
        "source",
        nargs="*",
        help="such as demo:test or nemo:test.json; by default the run's own test splits",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the reports as JSON too")
    made.add_argument(
        "--worst", type=int, metavar="N", help=f"utterances to list (by default {_WORST})"
    )
    made.add_argument("--output", type=Path, metavar="FILE", help="write transcripts as JSON lines")
    made.add_argument(
        "--no-baseline",
        action="store_true",
        help="of an adapted model: leave out what it heard before adaptation",
    )
    probes = made.add_argument_group(
        "probes", "what the frozen representation of a model tells, such as of the speaker"
    )
    probes.add_argument("--probe", action="store_true", help="train fresh probes of the splits")
    probes.add_argument("--twin", type=Path, metavar="RUN", help="measure this run beside it")
    probes.add_argument("--seeds", type=int, metavar="N", help="of each probe (3, or more)")
    probes.add_argument(
        "--rows", type=int, metavar="N", help="most utterances of a split to probe (6000)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parser().parse_intermixed_args(arguments)
    return exit_status(_probe if options.probe else _main, options)


def _probe(options: argparse.Namespace) -> int:
    from core.probe import probe

    for name in ("base", "output", "worst", "no_baseline"):
        if getattr(options, name) not in (None, False):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for error rates, and probes have none; leave it out"
            )
    with text_file(options.json) as keep:
        return probe(options, keep)


def _main(options: argparse.Namespace) -> int:
    given = [name for name in ("twin", "seeds", "rows") if getattr(options, name) is not None]
    if given:
        raise ConfigError(f"--{given[0]} is for probes; add --probe")
    model = load_from(options)
    sources = options.source or list(model.data.test_splits)
    if not sources:
        raise ConfigError(
            f"{options.run} names no test split; give a source, such as nemo:test.json"
        )
    print(f"weights {model.checkpoint}")
    baseline = model.adapted and not options.no_baseline
    worst = _WORST if options.worst is None else options.worst
    with json_lines(options.output) as write, text_file(options.json) as keep:
        reports = {
            source: _evaluate(model, source, worst=worst, baseline=baseline, write=write)
            for source in sources
        }
        keep(json.dumps(reports, ensure_ascii=False, indent=2) + "\n")
    return 0


def _evaluate(
    model: Model, source: str, *, worst: int, baseline: bool, write: Write
) -> dict[str, Any]:
    """Print the report of one source and return it for JSON.

    Raises:
        DataError: nothing of the source could be used.
    """
    from core.inference import heard

    report, before = model.task.error_report(), model.task.error_report()
    scored, skipped = 0, 0
    for item in heard(model, model.data.open_split(source), baseline=baseline):
        for left in item.batch.skipped:
            skipped += 1
            print(f"skipped {left.id}: {left.reason}: {left.detail}", file=sys.stderr)
        for row, transcript in enumerate(item.transcripts):
            said, speaker = item.reference(row), item.speaker(row)
            if said is None:
                skipped += 1
                print(f"skipped {transcript.id}: no transcript", file=sys.stderr)
                continue
            scored += 1
            record = {
                "source": source,
                "id": transcript.id,
                "speaker": speaker,
                "reference": said,
                "hypothesis": transcript.text,
            }
            report.add(
                id=transcript.id, reference=said, hypothesis=transcript.text, speaker=speaker
            )
            if item.baseline is not None:
                text = record["unadapted"] = item.baseline[row].text
                before.add(id=transcript.id, reference=said, hypothesis=text, speaker=speaker)
            write(record)
    if scored == 0:
        raise DataError(f"{source}: no utterance could be used; {skipped} were skipped")
    print(f"\n{source}: {scored} utterances, {skipped} skipped")
    figures = _told(report, before if baseline else None, worst)
    return figures | {"skipped": skipped, "task": model.task.summary()}


def _told(report: ErrorReport, before: ErrorReport | None, worst: int) -> dict[str, Any]:
    """Print a report, with what changed from the one before adaptation; return both for JSON."""
    figures = report.as_dict(worst=worst)
    for line in report.lines(worst=worst):
        print(line)
    if before is None:
        return figures
    comparison = report.beside(before)
    print("\nBefore and after adaptation, on the same prompts")
    for line in comparison.lines(worst=worst):
        print(line)
    unadapted = before.as_dict(worst=worst)
    return figures | {"unadapted": unadapted, "comparison": comparison.as_dict()}


if __name__ == "__main__":
    sys.exit(main())
