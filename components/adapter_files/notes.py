"""``sori.json``: what an adapter was trained with, for whoever uses it without its run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import fiddle as fdl

from core import registry
from core.config.types import coerce
from core.errors import CheckpointError, ConfigError, RegistryError

NOTES = "sori.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a folder says of the task that its weights were trained in.

    Args:
        language: that the prompt names; None for none.
        prompt_chunks: most chunks of audio under one prompt.
        text: component and options of the normal form, None for texts as written.
        model: quantisation, dtype and other settings of the model.
        base: identity of the base model; None in a folder that is a model itself.
    """

    language: str | None = None
    prompt_chunks: int = 1
    text: Mapping[str, Any] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Write the file."""
        content = {
            "sori": FORMAT,
            "language": self.language,
            "prompt_chunks": self.prompt_chunks,
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
                prompt_chunks=int(found["prompt_chunks"]),
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
    plain = {n: str(v.resolve()) if isinstance(v, Path) else v for n, v in options.items()}
    return {"component": "/".join(identity), "options": plain}


def configured(text: Mapping[str, Any], *, folder: Path) -> fdl.Config[Any]:
    """Return the configuration of what :func:`described` gave. Raises CheckpointError."""
    place = folder / NOTES
    try:
        label, options = str(text["component"]), dict(text["options"])
        if not label.startswith("text/"):
            raise CheckpointError(f"{place}: {label} is no component of kind text")
        component = registry.lookup_path(label)
        hints = get_type_hints(component.__init__)  # type: ignore[misc]
        values = {n: coerce(v, hints[n], f"{label}.{n}") for n, v in options.items()}
    except (KeyError, TypeError, ValueError, RegistryError, ConfigError) as error:
        raise CheckpointError(f"{place}: the normal form cannot be made: {error}") from error
    return fdl.Config(component, **values)
