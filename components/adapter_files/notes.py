"""``sori.json``: what an adapter was trained with, beside it, for whoever uses it without its run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fiddle as fdl

from core import registry
from core.errors import CheckpointError, RegistryError

NOTES = "sori.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a folder says of the task that its weights were trained in.

    Args:
        language: that the prompt names; None for none.
        text: component and options of the normal form, None for texts as written.
        model: quantisation, dtype and other settings of the model.
        base: identity of the base model; None in a folder that is a model itself.
    """

    language: str | None = None
    text: Mapping[str, Any] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Write the file."""
        content = {
            "sori": FORMAT,
            "language": self.language,
            "text": self.text,
            "model": dict(self.model),
            "base": self.base,
        }
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (folder / NOTES).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Notes | None:
        """Read the file; None where there is none. Raises CheckpointError."""
        file = folder / NOTES
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["sori"] != FORMAT:
                raise CheckpointError(f"{file}: format {found['sori']}; expected {FORMAT}")
            return cls(
                language=found["language"],
                text=found["text"],
                model=dict(found["model"]),
                base=found["base"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file} cannot be read: {error!r}") from error


def described(component: object) -> dict[str, Any] | None:
    """Return kind, name and options of an instance of a registered component, as JSON.

    Options are what its constructor takes and keeps under the same name. None where the component
    is not registered or keeps them otherwise: then it cannot be made again from a file.
    """
    identity = registry.identify(type(component))
    names = list(inspect.signature(type(component)).parameters)
    if identity is None or not all(hasattr(component, name) for name in names):
        return None
    options = {name: getattr(component, name) for name in names}
    plain = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
    return {"component": "/".join(identity), "options": plain}


def configured(text: Mapping[str, Any], *, folder: Path) -> fdl.Config[Any]:
    """Return the configuration of what :func:`described` gave. Raises CheckpointError."""
    place = folder / NOTES
    try:
        label, options = str(text["component"]), dict(text["options"])
        if not label.startswith("text/"):
            raise CheckpointError(f"{place}: {label} is no component of kind text")
        component = registry.lookup_path(label)
    except (KeyError, TypeError, ValueError, RegistryError) as error:
        raise CheckpointError(f"{place}: the normal form cannot be made: {error}") from error
    try:
        return fdl.Config(component, **options)
    except TypeError as error:
        raise CheckpointError(f"{place}: {label}: {error}") from error
