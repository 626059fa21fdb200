"""``python -m core.inspect``: list components, and look into experiments and runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError, ConfigErrors, RegistryError, SoriError, suggest

if TYPE_CHECKING:
    import fiddle as fdl

    from core.experiment import Experiment

# Listing components must not wait for torch or fiddle: what needs them is imported by each verb.

DESCRIPTION = """\
components, read from source:
  core.inspect                                kinds, counts, names, broken plugins
  core.inspect KIND                           signatures and places of a kind
  core.inspect KIND/NAME                      one component in full
  core.inspect kernels                        fused ops, and which backends can run here

experiments and runs (TARGET is an experiment file or a run directory):
  core.inspect show TARGET [override ...]     the configuration, one leaf a line, and the
                                              parameters by module
  core.inspect lint TARGET [override ...]     everything that is wrong, without building it
  core.inspect diff TARGET TARGET             what differs between two configurations
  core.inspect graph TARGET [override ...]    how components are wired, in dot
  core.inspect explain TARGET PATH [...]      where a value was set, its type, default and doc
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
    from core.catalog import index, render, usage

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
    kind, slash, name = options.subject.partition("/")
    if kind not in catalog.kinds():
        raise RegistryError(_neither_kind_nor_verb(options.subject, catalog.kinds()))
    if not slash:
        table = render.table_json if options.json else render.table
        _print(table(catalog, kind))
        return 0
    entry = catalog.find(kind, name)
    uses, unreadable = usage.usages(entry)
    page = render.page_json if options.json else render.page
    _print(page(entry, uses, unreadable))
    return 0


def _neither_kind_nor_verb(subject: str, kinds: Sequence[str]) -> str:
    if Path(subject).exists() or subject.endswith(".py"):
        return f"'{subject}' is a file or folder; say what to do with it: {', '.join(VERBS)}"
    hint = suggest(subject.partition("/")[0], [*kinds, *VERBS], noun="kinds and verbs")
    return f"'{subject}' names neither a kind of component nor a verb: {hint}"


def _show(arguments: Sequence[str]) -> int:
    parser = _parser("show", "target", "overrides*")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_intermixed_args(arguments)
    config = _compose(options.target, options.overrides)
    from core.config.flatten import flat_text, flatten

    if options.json:
        _print(flatten(config))
        return 0
    _print(flat_text(config))
    for line in _outline(config):
        print(f"# {line}".rstrip())
    return 0


def _outline(config: fdl.Config[Experiment]) -> list[str]:
    """Return the parameter table, or why there is none: the configuration is shown in any case."""
    from core.train.dryrun import outline

    try:
        return outline(config)
    except Exception as error:  # whatever a component raises
        first = (str(error).splitlines() or [""])[0]
        return [f"no parameter table: {type(error).__name__}: {first}"]


def _lint(arguments: Sequence[str]) -> int:
    options = _parser("lint", "target", "overrides*").parse_intermixed_args(arguments)
    config = _compose(options.target, options.overrides)
    from core.config.lint import lint

    problems = lint(config)
    if problems:
        raise ConfigErrors(problems)
    print(f"{options.target}: no problem found")
    return 0


def _diff(arguments: Sequence[str]) -> int:
    options = _parser("diff", "first", "second").parse_args(arguments)
    first, second = _compose(options.first, ()), _compose(options.second, ())
    from core.config.diff import diff_lines

    _print("\n".join(diff_lines(first, second)) or "no difference")
    return 0


def _graph(arguments: Sequence[str]) -> int:
    parser = _parser("graph", "target", "overrides*")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to a file")
    options = parser.parse_intermixed_args(arguments)
    config = _compose(options.target, options.overrides)
    from core.config.graph import to_dot

    if options.out is None:
        _print(to_dot(config))
        return 0
    try:
        options.out.write_text(to_dot(config), encoding="utf-8")
    except OSError as error:
        raise SoriError(f"{options.out}: cannot be written: {error.strerror}") from error
    print(f"wrote {options.out}; draw it with: dot -Tsvg -O {options.out}")
    return 0


def _explain(arguments: Sequence[str]) -> int:
    options = _parser("explain", "target", "path", "overrides*").parse_args(arguments)
    config = _compose(options.target, options.overrides)
    from core.config.explain import explain

    _print(explain(config, options.path))
    return 0


def _sync(arguments: Sequence[str]) -> int:
    parser = _parser("sync", "run")
    parser.add_argument("--tracker", default="aim", metavar="NAME", help="default: aim")
    options = parser.parse_intermixed_args(arguments)
    from core.config.flatten import flatten
    from core.track.sync import sync_run

    run = Path(options.run)
    config = _saved_config(run)
    name, hparams = (config.name, flatten(config)) if config else (None, None)
    count = sync_run(run, options.tracker, name=name, hparams=hparams)
    print(f"{run}: {count} lines of metrics replayed into {options.tracker}")
    return 0


def _saved_config(run: Path) -> fdl.Config[Experiment] | None:
    """Return the configuration of a run; None, and a note, if it can no longer be loaded."""
    if not run.is_dir():
        return None  # the replay refuses it and says what is there instead
    try:
        return _compose(str(run), ())
    except ConfigError as error:
        print(f"replayed without its configuration: {error}", file=sys.stderr)
        return None


def _kernels(arguments: Sequence[str]) -> int:
    parser = _parser("kernels")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    from core.catalog import kernels

    rows, broken = kernels.collect()
    render = kernels.as_json if options.json else kernels.as_text
    _print(render(rows, broken))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "show": _show,
    "lint": _lint,
    "diff": _diff,
    "graph": _graph,
    "explain": _explain,
    "sync": _sync,
    "kernels": _kernels,
}
"""First words that are commands; no kind of component may have such a name."""


def _parser(verb: str, *positionals: str) -> argparse.ArgumentParser:
    """Return the command line of a verb; a name that ends in ``*`` takes any number of words."""
    made = argparse.ArgumentParser(prog=f"python -m core.inspect {verb}")
    for name in positionals:
        made.add_argument(name.rstrip("*"), nargs="*" if name.endswith("*") else None)
    return made


def _compose(target: str, overrides: Sequence[str]) -> fdl.Config[Experiment]:
    """Compose a target with its overrides; what they change goes to standard error."""
    from core.config.compose import compose_target

    composed = compose_target(target, overrides)
    for line in (*composed.notes, *composed.changes):
        print(line, file=sys.stderr)
    return composed.config


def _print(result: object) -> None:
    text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False)
    print(text.rstrip("\n"))


if __name__ == "__main__":
    sys.exit(main())
