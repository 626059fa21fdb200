from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.features.whisper import WhisperFeatures, trim
from components.features.whisper_cache import VALUES, WhisperCache, cache_fingerprint
from core.data.feature_index import DTYPES, StoredDtype
from core.data.feature_writer import FeatureWriter
from core.data.fingerprint import Fingerprint, FingerprintError

SAMPLES = (1600, 480_160)


def audio(samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))


def store(folder: Path, *, settings: Fingerprint, dtype: StoredDtype) -> None:
    with FeatureWriter(folder=folder, fingerprint=settings, values=VALUES, dtype=dtype) as writer:
        for samples in SAMPLES:
            trimmed = trim(WhisperFeatures()(audio(samples)), samples=samples)
            values = {"fill": trimmed.fill, "samples": samples, "audio": 0.0}
            writer.add(str(samples), trimmed.frames, values)
        writer.finish()


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_cached_features_are_those_of_the_audio(tmp_path: Path, dtype: StoredDtype) -> None:
    store(tmp_path, settings=cache_fingerprint(), dtype=dtype)
    cache = WhisperCache(folder=tmp_path)
    for samples in SAMPLES:
        wanted = WhisperFeatures()(audio(samples)).to(DTYPES[dtype])
        assert torch.equal(cache(str(samples)), wanted)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_a_batch_holds_the_chunks_of_all(tmp_path: Path, dtype: StoredDtype) -> None:
    store(tmp_path, settings=cache_fingerprint(), dtype=dtype)
    cache = WhisperCache(folder=tmp_path)
    names = [str(samples) for samples in (*SAMPLES, *reversed(SAMPLES))]
    batch = cache.batch(names)
    assert batch.shape == (6, 128, 3000)
    assert batch.is_contiguous()
    assert torch.equal(batch, torch.cat([cache(name) for name in names]))
    assert [cache.samples(name) for name in names] == [int(name) for name in names]
    assert cache.batch([]).shape == (0, 128, 3000)
    assert cache.batch([]).dtype == DTYPES[dtype]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"decoder": "libsndfile 1.0.0"}, "decoder: 'libsndfile 1.0.0' there"),
        ({"trim": "none"}, "trim: 'none' there"),
        ({"features": {"feature_size": 80}}, "features.feature_size: 80 there, 128 expected"),
    ],
)
def test_a_cache_of_another_processor_is_refused(
    tmp_path: Path, change: dict[str, object], told: str
) -> None:
    fields = dict(cache_fingerprint().fields)
    features = change.get("features")
    if isinstance(features, dict):
        change = {"features": {**fields["features"], **features}}
    store(tmp_path, settings=Fingerprint(fields={**fields, **change}), dtype="bf16")
    with pytest.raises(FingerprintError, match=told):
        WhisperCache(folder=tmp_path)
