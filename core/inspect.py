"""``python -m core.inspect``: list components, and look into experiments and runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import RegistryError, SoriError, suggest

Command = Callable[[Sequence[str]], int]

DESCRIPTION = """\
components, read from source:
  core.inspect                         kinds, counts, names, broken plugins
  core.inspect KIND                    signatures and places of a kind
  core.inspect KIND/NAME               one component in full

experiments and runs (TARGET is an experiment file or a run directory):
  core.inspect show TARGET [override ...]     the configuration, one leaf a line
  core.inspect lint TARGET [override ...]     what would be refused or is doubtful
  core.inspect diff TARGET TARGET             what differs between two configurations
  core.inspect graph TARGET [override ...]    how components are wired, in dot
  core.inspect explain TARGET PATH            where a value was set, its type, default and doc
  core.inspect sync RUN                       replay a run's metrics into a tracker
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = VERBS.get(given[0]) if given else None
    try:
        status = verb(given[1:]) if verb else _components(given)
        sys.stdout.flush()
    except SoriError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (such as head) has gone. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _components(arguments: Sequence[str]) -> int:
    from core.catalog import index, render
    from core.catalog.usage import usages

    made = argparse.ArgumentParser(
        prog="python -m core.inspect",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("subject", nargs="?", metavar="KIND[/NAME]")
    made.add_argument("--json", action="store_true", help="print JSON")
    options = made.parse_args(arguments)
    catalog = index()
    if options.subject is None:
        _print(render.overview_json(catalog) if options.json else render.overview(catalog))
        return 0
    _refuse_unless_component(options.subject, catalog.kinds())
    kind, slash, name = options.subject.partition("/")
    if not slash:
        shown = render.table_json if options.json else render.table
        _print(shown(catalog, kind))
        return 0
    entry = catalog.find(kind, name)
    uses, unreadable = usages(entry)
    full = render.page_json if options.json else render.page
    _print(full(entry, uses, unreadable))
    return 0


def _refuse_unless_component(subject: str, kinds: Sequence[str]) -> None:
    kind, slash, _ = subject.partition("/")
    if kind in kinds:
        return
    if Path(subject).exists() or subject.endswith(".py"):
        verbs = ", ".join(VERBS)
        raise RegistryError(f"'{subject}' is a file or folder; say what to do with it: {verbs}")
    if not slash:
        hint = suggest(subject, [*kinds, *VERBS], noun="kinds and verbs")
        raise RegistryError(f"'{subject}' is neither a kind of component nor a verb: {hint}")


def _print(result: object) -> None:
    print(result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False))


VERBS: dict[str, Command] = {}

if __name__ == "__main__":
    sys.exit(main())
