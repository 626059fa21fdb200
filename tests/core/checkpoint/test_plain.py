from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpoint.plain import flat_weights, plain, size_of
from core.errors import CheckpointError


@pytest.mark.parametrize("value", [None, True, 3, 0.1, "text", b"bytes", [1, (2, None)], {"a": {}}])
def test_plain_values_stay_as_they_are(value: object) -> None:
    assert plain(value, path="state") == value
    assert type(plain(value, path="state")) is type(value)


def test_arrays_are_copied_into_tensors() -> None:
    array = np.arange(3, dtype=np.int16)

    tensor = plain(array, path="state")
    array[0] = 9

    assert tensor.dtype == torch.int16
    assert tensor.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, object()]}, r"state\.a\[1\] is a builtins.object"),
        ({Path("x"): 1}, r"state \(a key\) is a pathlib"),
        (np.array(["text"]), "state is a numpy.ndarray"),
        (torch.float32, "state is a torch.dtype"),
    ],
)
def test_the_place_of_what_cannot_be_stored_is_named(value: object, place: str) -> None:
    with pytest.raises(CheckpointError, match=place):
        plain(value, path="state")


def test_flat_weights_share_no_memory() -> None:
    base = torch.arange(4.0)

    flat = flat_weights({"a": base, "b": base, "c": base[2:]}, path="model")

    assert len({tensor.untyped_storage().data_ptr() for tensor in flat.values()}) == 3
    assert flat["c"].tolist() == [2.0, 3.0]


def test_sparse_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"model\['a'\] is a Tensor; expected a dense tensor"):
        flat_weights({"a": torch.eye(3).to_sparse()}, path="model")


def test_size_counts_tensors_at_any_depth() -> None:
    assert size_of({"a": [torch.zeros(3), (torch.zeros(2, dtype=torch.int64), "text")]}) == 28
