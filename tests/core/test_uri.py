from __future__ import annotations

import pytest

from components.nemo.weights import NemoWeights
from core.errors import ConfigError
from core.uri import make


def test_a_component_of_any_kind() -> None:
    made = make("nemo:a/b.nemo?other_settings=true", kind="weights", noun="weights")
    assert isinstance(made, NemoWeights)
    assert (made.location, made.other_settings) == ("a/b.nemo", True)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("model.nemo", r"weights 'model\.nemo' does not say .* such as 'nemo:model\.nemo'"),
        ("neemo:model.nemo", "unknown scheme 'neemo'; did you mean 'nemo'"),
        ("nemo:m?other=true", "unknown option 'other'; did you mean 'other_settings'"),
        ("nemo:", "expected a location after 'nemo:'"),
    ],
)
def test_refusals_name_the_kind(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(uri, kind="weights", noun="weights")
