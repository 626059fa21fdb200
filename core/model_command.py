"""What the commands that use a trained model share: arguments, loading, exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import SoriError

if TYPE_CHECKING:
    from core.inference import Model


def model_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a command line that names a run and how to load it."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument(
        "run", type=Path, help="run directory, single checkpoint, or adapter directory"
    )
    made.add_argument("--base", metavar="MODEL", help="folder or id that an adapter is used with")
    made.add_argument("--weights", choices=("best", "latest"), default="best")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override the saved config"
    )
    return made


def load_from(options: argparse.Namespace) -> Model:
    """Load the model that :func:`model_parser` arguments name, and say what it computes with.

    Raises SoriError.
    """
    # Imported late: --help must not wait for torch.
    from core.inference import load_model

    model = load_model(
        options.run,
        device=options.device,
        weights=options.weights,
        overrides=options.set,
        base=options.base,
    )
    for note in model.notes:
        print(f"note: {note}", file=sys.stderr)
    for line in model.task.summary():
        print(f"task: {line}", file=sys.stderr)
    return model


def exit_status(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; print a refusal as one message and return its status."""
    try:
        return command(options)
    except SoriError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
