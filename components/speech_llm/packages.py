"""The packages of the extra ``llm``, asked for where they are needed."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import ConfigError

_INSTALLED_AS = {
    "transformers": "transformers",
    "peft": "peft",
    "bitsandbytes": "bitsandbytes",
    "accelerate": "accelerate",
    "mistral_common": "mistral-common[audio]",
}


def require(*names: str) -> None:
    """Raise ConfigError naming what is not installed and how to install it."""
    missing = [_INSTALLED_AS[name] for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"speech language models need {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed; pip install 'sori[llm]'"
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Draw no bars, and let bitsandbytes not ask for the hub's kernels when it is imported."""
    from transformers.utils import logging as bars

    noisy, shown = logging.getLogger("bitsandbytes"), bars.is_progress_bar_enabled()
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        noisy.setLevel(level)
        if shown:
            bars.enable_progress_bar()
