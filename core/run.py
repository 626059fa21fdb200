"""``python -m core.run FILE [knob=value] [+preset] [path=value] ...``: train an experiment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import SoriError

USAGE = """\
knob=value            a keyword of the file's experiment() function, such as scale=full
+preset               a preset of the file or of presets.py beside it
a.b.c=value           a leaf of the configuration; core.inspect show FILE lists them
a.b=@kind/name        another component in place of the one that is there
'**.dropout=0'        every leaf that matches; it must match one
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``core.run``."""
    made = argparse.ArgumentParser(
        prog="python -m core.run",
        description="Train an experiment, or go on with it where it stopped.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("target", nargs="?", help="experiment file, such as experiments/x.py")
    made.add_argument("overrides", nargs="*", help="knobs, presets and overrides, see below")
    made.add_argument("--from-run", metavar="RUN", help="take the configuration of a former run")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run directories")
    made.add_argument("--run-dir", type=Path, help="use this very run directory")
    made.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|RUN",
        help="auto: go on if the run exists; never: start anew; RUN: go on with that run",
    )
    made.add_argument(
        "--init-from",
        metavar="RUN_OR_FILE",
        help="start from the weights of a run, a checkpoint, or a file such as nemo:model.nemo",
    )
    made.add_argument(
        "--branch-from",
        metavar="RUN_OR_CHECKPOINT",
        help="start a run that goes on from another's checkpoint with all of its state",
    )
    made.add_argument(
        "--allow-data-change", action="store_true", help="resume although a manifest changed"
    )
    made.add_argument("--dry-run", action="store_true", help="check and print, do not train")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parser().parse_intermixed_args(arguments)
    try:
        return _main(options)
    except SoriError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the last checkpoint is complete", file=sys.stderr)
        return 130


def _main(options: argparse.Namespace) -> int:
    # Imported late: --help must not wait for torch.
    from core.config.compose import compose_target
    from core.train.console import write
    from core.train.dryrun import dry_run
    from core.train.initial import start_name, suggested_knobs
    from core.train.runner import RunOptions, run

    target, tokens = _target(options)
    init_from = start_name(options.init_from) if options.init_from is not None else None
    composed = compose_target(target, tokens, suggested=suggested_knobs(init_from))
    if options.dry_run:
        for line in dry_run(composed):
            print(line)
        return 0
    settings = RunOptions(
        root=options.runs,
        directory=options.run_dir,
        resume=options.resume,
        init_from=init_from,
        branch_from=options.branch_from,
        allow_data_change=options.allow_data_change,
    )
    return run(composed, settings, write).exit_code


def _target(options: argparse.Namespace) -> tuple[str, list[str]]:
    tokens = list(options.overrides)
    if options.from_run is None:
        if options.target is None:
            parser().error("name an experiment file, or a run with --from-run")
        return options.target, tokens
    # With --from-run the first positional is an override like the others.
    return options.from_run, ([options.target] if options.target else []) + tokens


if __name__ == "__main__":
    sys.exit(main())
