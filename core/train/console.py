"""The one console that lines and the progress bar share, so that neither tears the other."""

from __future__ import annotations

from rich.console import Console

CONSOLE = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def write(text: str) -> None:
    """Print a line, above the progress bar if there is one."""
    CONSOLE.print(text)
