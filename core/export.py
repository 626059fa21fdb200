"""``python -m core.export RUN FORM:PATH``: write a model's weights in another toolkit's form."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from core.model_command import exit_status


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``core.export``."""
    made = argparse.ArgumentParser(prog="python -m core.export", description=__doc__)
    made.add_argument("run", type=Path, help="run directory, checkpoint, or adapter directory")
    made.add_argument(
        "output", metavar="FORM:PATH", help="such as nemo:model.nemo, peft:FOLDER or merged:FOLDER"
    )
    made.add_argument("--base", metavar="MODEL", help="folder or id that an adapter is used with")
    made.add_argument("--weights", choices=("best", "latest"), default="best")
    made.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override the saved config"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return exit_status(_export, parser().parse_args(arguments))


def _export(options: argparse.Namespace) -> int:
    # Imported late: --help must not wait for torch.
    from core.inference import load_task
    from core.train.initial import open_weights

    output = open_weights(options.output)  # refused before anything is read
    loaded = load_task(
        options.run, weights=options.weights, overrides=options.set, base=options.base
    )
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{loaded.checkpoint}: {type(loaded.task).__name__}")
    for line in output.save(loaded.task):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
