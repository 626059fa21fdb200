from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from components.quantizers.random_projection import RandomProjectionQuantizer
from core.errors import ConfigError

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT.parent / "shared/golden/nest"


def build(**changes: int | str) -> RandomProjectionQuantizer:
    torch.manual_seed(0)
    quantizer = RandomProjectionQuantizer(**({"codebook_size": 50} | changes))  # type: ignore[arg-type]
    quantizer.setup(input_dim=6)
    return quantizer


def test_targets_are_the_nearest_codes_by_distance() -> None:
    quantizer = build(num_books=3, stack=4)
    features = torch.randn(2, 12, 6)
    targets = quantizer(features)
    assert targets.shape == (2, 3, 3)
    for row in range(2):
        for place in range(3):
            stacked = features[row, 4 * place : 4 * place + 4].flatten().double()
            for book in range(3):
                projected = F.normalize(stacked @ quantizer.projection[book].double(), dim=0)
                distances = (quantizer.codebooks[book] - projected).norm(dim=1)
                assert targets[row, place, book] == distances.argmin()


def test_an_incomplete_stack_is_completed_with_zeros() -> None:
    quantizer = build()
    features = torch.randn(1, 11, 6)
    padded = F.pad(features, (0, 0, 0, 5))
    assert torch.equal(quantizer(features), quantizer(padded))
    assert quantizer(features).shape == (1, 2, 1)


def test_layer_norm_makes_targets_blind_to_level_and_offset() -> None:
    features = torch.randn(1, 64, 6)
    for norm, same in (("layer_norm", True), ("none", False)):
        quantizer = build(input_norm=norm)
        moved = quantizer(3.0 * features + 5.0)
        assert torch.equal(quantizer(features), moved) is same


def test_everything_is_frozen_and_codes_have_unit_length() -> None:
    quantizer = build(num_books=2)
    assert all(not p.requires_grad for p in quantizer.parameters())
    assert quantizer.codebooks.dtype == torch.float64
    torch.testing.assert_close(
        quantizer.codebooks.norm(dim=-1), torch.ones(2, 50, dtype=torch.float64)
    )
    assert not torch.equal(quantizer.codebooks[0], quantizer.codebooks[1])


def test_autocast_does_not_change_a_target() -> None:
    quantizer = build(codebook_size=2000)
    features = torch.randn(4, 800, 6)
    exact = quantizer(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(features), exact)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
def test_tokens_are_nemos() -> None:
    golden = load_file(GOLDEN / "mini_io.safetensors")
    state = load_file(GOLDEN / "mini_state.safetensors")
    quantizer = RandomProjectionQuantizer(codebook_size=64)
    quantizer.setup(input_dim=80)
    quantizer.projection.copy_(state["quantizer.proj.weight"].T.unsqueeze(0))
    quantizer.codebooks.copy_(state["quantizer.codebooks"])
    tokens = quantizer(golden["feats"].transpose(1, 2))
    assert tokens.shape == golden["tokens"].shape
    for row, frames in enumerate(golden["feats_len"].tolist()):
        valid = -(-frames // 8)
        assert torch.equal(tokens[row, :valid], golden["tokens"][row, :valid])


MEASURE = """
import json, resource, sys, torch
torch.set_num_threads(1)
from components.quantizers.random_projection import RandomProjectionQuantizer
torch.manual_seed(0)
quantizer = RandomProjectionQuantizer()
quantizer.setup(input_dim=80)
features = torch.randn(16, 2000, 80)
quantizer(features[:1, :8])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
targets = quantizer(features)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
json.dump({"mib": (after - before) / 1024, "shape": list(targets.shape)}, sys.stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in KiB is Linux's")
def test_search_over_320_seconds_takes_less_than_200_mb() -> None:
    """16 utterances of 20 s and 8,192 codes, whose distances alone would take 4.2 GB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["shape"] == [16, 250, 1]
    assert found["mib"] < 190


@pytest.mark.parametrize("name", ["num_books", "codebook_size", "code_dim", "stack"])
def test_sizes_must_be_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, found 0"):
        build(**{name: 0})
