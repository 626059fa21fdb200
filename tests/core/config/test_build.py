from __future__ import annotations

import fiddle as fdl
import pytest

from core.config.build import build
from core.errors import ConfigError
from core.experiment import Experiment
from tests.core.config.conftest import Toy


def test_an_experiment_is_built(toy: Toy) -> None:
    assert isinstance(build(toy.config()), Experiment)


def refusing(*, limit: int) -> None:
    raise ConfigError(f"limit must be at least 1, found {limit}")


def test_a_refusal_is_raised_as_the_constructor_put_it(toy: Toy) -> None:
    config = toy.config()
    config.data = fdl.Config(refusing, limit=0)
    with pytest.raises(ConfigError) as caught:
        build(config)
    assert type(caught.value) is ConfigError
    assert str(caught.value) == "limit must be at least 1, found 0"


def test_a_defect_keeps_the_arguments_that_led_to_it() -> None:
    with pytest.raises(TypeError, match="Fiddle context"):
        build(fdl.Config(Experiment, name="incomplete"))
