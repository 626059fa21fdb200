"""Small folders of feature shards."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from core.data.feature_index import StoredDtype
from core.data.feature_writer import FeatureWriter
from core.data.fingerprint import Fingerprint

SETTINGS = Fingerprint(fields={"bins": 8, "rule": "none"})


def array(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, 5 + number, generator=generator)


def writer(folder: Path, *, dtype: StoredDtype = "float32", shard: int = 1000) -> FeatureWriter:
    return FeatureWriter(
        folder=folder,
        fingerprint=SETTINGS,
        values=("seconds", "fill"),
        dtype=dtype,
        shard_bytes=shard,
    )


def fill(store: FeatureWriter, first: int, last: int) -> None:
    for number in range(first, last):
        if f"발화{number}" not in store:
            store.add(f"발화{number}", array(number), {"seconds": number / 7, "fill": -1.5})
