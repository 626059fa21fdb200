from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from torch import Tensor

from components.speech_llm.families import FAMILIES
from components.speech_llm.memory import held_bytes, skeleton, weight_bytes
from components.speech_llm.quantization import keep_differentiable, kept_whole
from tests.components.speech_llm.conftest import CHUNKS, TEXTS, Maker


def largest_gradients(model: torch.nn.Module) -> list[float]:
    return [float(p.grad.abs().max()) for n, p in model.named_parameters() if "lora_B" in n]


def trained(model: torch.nn.Module, encoded: Tensor) -> list[float]:
    model.train()
    model.zero_grad()
    model.loss(encoded, CHUNKS, TEXTS, "ko")[0].backward()
    return largest_gradients(model)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_survive_an_evaluation(
    make: Maker, features: Tensor, checkpointing: bool
) -> None:
    model = make(quantization="nf4", dtype="bf16", gradient_checkpointing=checkpointing)
    encoded = model.encode(features)
    before = trained(model, encoded)
    model.eval()
    with torch.no_grad():
        assert torch.equal(model.encode(features), encoded)
        model.loss(encoded, CHUNKS, TEXTS, "ko")
        model.generate(encoded, CHUNKS, "ko", max_new_tokens=2)
    after = trained(model, encoded)
    assert len(before) == 2
    assert min(before) > 1e-3
    assert after == before


@pytest.mark.filterwarnings("ignore:bitsandbytes.*autograd kernel")
@pytest.mark.skipif(not has_avx512bf16(), reason="the packed path needs AVX512-BF16")
def test_without_the_cure_they_do_not(make: Maker, features: Tensor) -> None:
    model = make(quantization="nf4", dtype="bf16")
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = True
    encoded = model.encode(features)
    assert min(trained(model, encoded)) > 1e-3
    model.eval()
    with torch.no_grad():
        model.loss(encoded, CHUNKS, TEXTS, "ko")
    assert max(trained(model, encoded)) == 0.0


def test_projector_and_output_layer_are_left_whole(make: Maker) -> None:
    model = make(quantization="nf4", dtype="bf16").net.base_model.model
    packed = {name for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)}
    linear = {
        name
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and "lora_" not in name
    }
    assert linear - packed == {
        "lm_head",
        "model.multi_modal_projector.linear_1.base_layer",
        "model.multi_modal_projector.linear_2.base_layer",
    }
    assert len(packed) == 26
    states = [m.weight.quant_state for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert all(state.nested and state.quant_type == "nf4" for state in states)
    assert keep_differentiable(model) == 26


def test_the_estimate_is_what_is_held(make: Maker, tiny: Path) -> None:
    family = FAMILIES["voxtral"]
    model = make(quantization="nf4", dtype="bf16", adapted=False)
    adapter = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    base = model.net.base_model.model
    estimate = weight_bytes(skeleton(base.config, family), whole=kept_whole(family.projector))
    # The scales of the scales are padded to whole blocks in small layers, where they are few.
    assert held_bytes(base) - adapter == pytest.approx(estimate, rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="without CUDA it is quantised on the CPU")
def test_what_is_quantised_on_cuda_comes_to_the_cpu_and_computes_there(
    make: Maker, features: Tensor
) -> None:
    model = make(quantization="nf4", dtype="bf16").eval()
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    here = model.encode(features)
    there = model.to("cuda").encode(features.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=0.1, atol=0.1)


def test_quantised_and_whole_models_nearly_agree(make: Maker, features: Tensor) -> None:
    whole = make(dtype="bf16").eval()
    packed = make(dtype="bf16", quantization="nf4").eval()
    part = features[:1]
    with torch.no_grad():
        losses = [float(m.loss(m.encode(part), [1], ["a b c"], None)[0]) for m in (whole, packed)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
