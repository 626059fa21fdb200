"""``python -m core.prepare VERB ...``: make what training reads: manifests, features, mappings.

A verb is a component of kind ``prepare``. Its constructor is its command line: what has no default
is given in order, the rest as ``--name value``, and a switch as ``--name`` or ``--no-name``.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

from core import catalog
from core.catalog.docstring import argument_docs, without_arguments
from core.errors import ConfigError, DataError, suggest
from core.model_command import exit_status
from core.registry import lookup
from core.uri import converted

KIND = "prepare"


class Preparation(Protocol):
    """A verb, made from its command line."""

    def __call__(self, say: Callable[[str], None]) -> None:
        """Do the work and ``say`` what came of it, a line at a time. Raises SoriError."""


def parser() -> argparse.ArgumentParser:
    """Return the command line that names a verb."""
    verbs = [catalog.index().find(KIND, name) for name in sorted(catalog.index().names(KIND))]
    width = max((len(verb.name) for verb in verbs), default=0)
    made = argparse.ArgumentParser(
        prog="python -m core.prepare",
        description="Make what training reads: manifests, features, mappings.",
        epilog="verbs:\n"
        + "".join(f"  {verb.name:<{width}}  {verb.summary}\n" for verb in verbs)
        + "\ncore.prepare VERB --help tells of one",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("verb", help="what to make, see below")
    made.add_argument("arguments", nargs=argparse.REMAINDER, help="of the verb")
    return made


def verb_parser(name: str) -> argparse.ArgumentParser:
    """Return the command line of a verb. Raises ConfigError naming the nearest one."""
    names = catalog.index().names(KIND)
    if name not in names:
        raise ConfigError(f"no verb '{name}'; " + suggest(name, names, noun="verbs"))
    component = lookup(KIND, name)
    text = catalog.index().find(KIND, name).doc
    docs = argument_docs(text)
    made = argparse.ArgumentParser(
        prog=f"python -m core.prepare {name}",
        description=without_arguments(text),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    owner = component.__init__ if inspect.isclass(component) else component
    hints = get_type_hints(owner)
    for parameter in inspect.signature(component).parameters.values():
        _add(made, parameter, hints[parameter.name], docs.get(parameter.name, ""))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return exit_status(_main, parser().parse_args(arguments))


def _main(options: argparse.Namespace) -> int:
    chosen = verb_parser(options.verb).parse_args(options.arguments)
    preparation: Preparation = lookup(KIND, options.verb)(**vars(chosen))
    try:
        preparation(_say)
    except OSError as error:
        raise DataError(_fault(error)) from error
    return 0


def _fault(error: OSError) -> str:
    """Say which file cannot be read or written, and why."""
    cause = error.strerror or str(error)
    return cause if error.filename is None else f"{error.filename}: {cause}"


def _add(
    made: argparse.ArgumentParser,
    parameter: inspect.Parameter,
    hint: Any,  # noqa: ANN401
    text: str,
) -> None:
    name, text = parameter.name, text.replace("%", "%%")
    if parameter.default is inspect.Parameter.empty:
        made.add_argument(name, type=_reader(hint), metavar=name.upper(), help=text)
        return
    flag = "--" + name.replace("_", "-")
    if hint is bool:
        switch = argparse.BooleanOptionalAction
        made.add_argument(flag, dest=name, action=switch, default=parameter.default, help=text)
        return
    choices = "|".join(map(str, get_args(hint))) if get_origin(hint) is Literal else None
    shown = "" if parameter.default is None else f" (default: {parameter.default})"
    made.add_argument(
        flag,
        dest=name,
        type=_reader(hint),
        default=parameter.default,
        metavar=choices or name.upper(),
        help=text + shown,
    )


def _reader(hint: Any) -> Callable[[str], Any]:  # noqa: ANN401
    def read(text: str) -> Any:  # noqa: ANN401
        try:
            return converted(text, hint)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
