from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoProcessor, VoxtralForConditionalGeneration

from components.speech_llm.attention import choose_attention
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from core.checkpoint.match import load_strict
from core.contracts import RunContext
from core.errors import CheckpointError, ConfigError, DataError
from core.registry import identify, lookup
from tests.components.speech_llm.conftest import CHUNKS, TEXTS, Maker


def gradients(model: SpeechLLM) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def backward(model: SpeechLLM, encoded: Tensor) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    total, _ = model.loss(encoded, CHUNKS, TEXTS, "ko")
    total.backward()
    return float(total.detach()), gradients(model)


def singly(encoded: Tensor) -> list[tuple[Tensor, tuple[int, ...]]]:
    parts = encoded.split(list(CHUNKS))
    return [(part, (count,)) for part, count in zip(parts, CHUNKS, strict=True)]


def test_it_is_a_registered_component_and_cheap_to_construct() -> None:
    assert identify(SpeechLLM) == ("model", "speech_llm")
    assert lookup("adapter", "lora") is LoRA
    model = SpeechLLM(base="no/such-model", lora=LoRA())
    assert list(model.parameters()) == []
    kinds = {p.kind for p in inspect.signature(SpeechLLM).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_before_setup_there_are_no_weights() -> None:
    model = SpeechLLM(base="no/such-model", lora=LoRA())
    for ask in (model.describe, model.adapter_state, lambda: model.label_counts(["a"])):
        with pytest.raises(ConfigError, match="no weights yet"):
            ask()  # type: ignore[operator]


def test_the_loss_is_that_of_transformers_from_the_processors_inputs(
    tiny: Path, make: Maker, audio: tuple[Tensor, ...], features: Tensor
) -> None:
    model = make(adapted=False).eval()
    plain = VoxtralForConditionalGeneration.from_pretrained(tiny).eval()
    processor = AutoProcessor.from_pretrained(tiny)
    expected, tokens = 0.0, 0
    for each, text in zip(audio, TEXTS, strict=True):
        inputs = processor.apply_transcription_request(
            audio=[each.numpy()], language="ko", model_id="any", sampling_rate=16_000, format="wav"
        )
        answer = processor.tokenizer(text, add_special_tokens=False)["input_ids"] + [2]
        ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
        labels = ids.clone()
        labels[:, : inputs["input_ids"].shape[1]] = -100
        mean = plain(
            input_ids=ids, input_features=inputs["input_features"], labels=labels
        ).loss.detach()
        expected += float(mean) * len(answer)
        tokens += len(answer)
    total, count = model.loss(model.encode(features), CHUNKS, TEXTS, "ko")
    assert float(total.detach()) == pytest.approx(expected, rel=1e-6)
    assert int(count) == tokens == int(model.label_counts(TEXTS).sum())
    assert total.dtype == torch.float32


def test_transcripts_are_those_of_transformers(
    tiny: Path, make: Maker, audio: tuple[Tensor, ...], features: Tensor
) -> None:
    model = make(adapted=False).eval()
    plain = VoxtralForConditionalGeneration.from_pretrained(tiny).eval()
    processor = AutoProcessor.from_pretrained(tiny)
    expected = []
    for each in audio:
        inputs = processor.apply_transcription_request(
            audio=[each.numpy()], language="ko", model_id="any", sampling_rate=16_000, format="wav"
        )
        made = plain.generate(**inputs, max_new_tokens=8, do_sample=False)
        new = made[0, inputs["input_ids"].shape[1] :]
        expected.append(processor.tokenizer.decode(new, skip_special_tokens=True).strip())
    assert model.generate(model.encode(features), CHUNKS, "ko") == expected
    assert any(expected)


@torch.no_grad()
def test_a_batch_is_the_sum_of_its_utterances(make: Maker, encoded: Tensor) -> None:
    model = make().eval()
    together = model.score(encoded, CHUNKS, TEXTS, None)
    alone = [
        model.score(part, chunks, [text], None)
        for (part, chunks), text in zip(singly(encoded), TEXTS, strict=True)
    ]
    assert float(together.total) == pytest.approx(sum(float(a.total) for a in alone), rel=1e-5)
    assert int(together.tokens) == sum(int(a.tokens) for a in alone)
    assert int(together.correct) == sum(int(a.correct) for a in alone)


def test_transcripts_of_a_batch_are_those_of_its_utterances(make: Maker, encoded: Tensor) -> None:
    model = make().eval()
    together = model.generate(encoded, CHUNKS, "ko")
    alone = [model.generate(part, chunks, "ko")[0] for part, chunks in singly(encoded)]
    assert together == alone
    assert together == model.generate(encoded, CHUNKS, "ko")
    assert len(set(together)) > 1


def test_what_a_chunk_gives_does_not_depend_on_its_batch(make: Maker, features: Tensor) -> None:
    model = make()
    encoded = model.encode(features)
    assert encoded.shape == (3, 375, 256)
    assert not encoded.requires_grad
    for chunk in range(3):
        assert torch.equal(model.encode(features[chunk : chunk + 1])[0], encoded[chunk])


def test_stored_features_in_bf16_give_a_bf16_model_the_same_rows(
    make: Maker, features: Tensor
) -> None:
    model = make(dtype="bf16")
    assert torch.equal(model.encode(features), model.encode(features.bfloat16()))


def test_adapters_start_as_nothing_and_only_they_learn(make: Maker, encoded: Tensor) -> None:
    model = make(adapted=False)
    with model.unadapted():
        expected = float(model.loss(encoded, CHUNKS, TEXTS, "ko")[0].detach())
    total, found = backward(model, encoded)
    assert total == expected
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3_584
    assert all("lora_" in name for name in found)
    assert all(float(g.abs().max()) > 0 for n, g in found.items() if "lora_B" in n)


def test_the_base_can_be_heard_again_and_the_adapter_comes_back(
    make: Maker, encoded: Tensor
) -> None:
    model = make().eval()
    adapted = float(model.loss(encoded, CHUNKS, TEXTS, None)[0].detach())
    fresh = make(adapted=False).eval()
    base = float(fresh.loss(encoded, CHUNKS, TEXTS, None)[0].detach())
    with model.unadapted():
        assert float(model.loss(encoded, CHUNKS, TEXTS, None)[0].detach()) == base
        heard = model.generate(encoded, CHUNKS, None)
    assert heard == fresh.generate(encoded, CHUNKS, None)
    assert float(model.loss(encoded, CHUNKS, TEXTS, None)[0].detach()) == adapted != base
    assert len(backward(model.train(), encoded)[1]) == 4


def test_contexts_without_the_adapter_can_be_nested(make: Maker, encoded: Tensor) -> None:
    model = make().eval()

    def loss() -> float:
        return float(model.loss(encoded[:1], [1], ["a"], None)[0].detach())

    adapted = loss()
    with model.unadapted():
        base = loss()
        with model.unadapted():
            assert loss() == base
        assert loss() == base
        with pytest.raises(DataError), model.unadapted():
            model.loss(encoded, (1,), ["a"], None)
        assert loss() == base
    assert loss() == adapted != base


def test_the_state_is_the_adapter_and_loads_strictly(make: Maker, encoded: Tensor) -> None:
    holder, other = nn.Module(), nn.Module()
    holder.model, other.model = make(), make(adapted=False)
    state = holder.state_dict()
    assert set(state) == {
        f"model.{n}" for n, p in holder.model.named_parameters() if p.requires_grad
    }
    load_strict(other, state, source="test")
    expected = holder.model.loss(encoded, CHUNKS, TEXTS, None)[0]
    assert torch.equal(other.model.loss(encoded, CHUNKS, TEXTS, None)[0], expected)
    name = next(iter(state))
    missing = {key: value for key, value in state.items() if key != name}
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(missing)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict({**state, "model.net.more": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not in file"):
        load_strict(other, missing, source="test")


def test_the_adapter_has_the_names_of_peft(make: Maker) -> None:
    model, other = make(), make(adapted=False)
    state = model.adapter_state()
    layers = ("linear_1", "linear_2")
    assert sorted(state) == [
        f"base_model.model.model.multi_modal_projector.{layer}.lora_{part}.weight"
        for layer in layers
        for part in "AB"
    ]
    other.load_adapter_state(state)
    for name, value in other.adapter_state().items():
        assert torch.equal(value, state[name])


def test_modes_leave_the_encoder_evaluated(make: Maker) -> None:
    model = make().train()
    inner = model.net.base_model.model.model
    assert not any(module.training for module in inner.audio_tower.modules())
    assert inner.language_model.training
    assert inner.multi_modal_projector.training
    model.generate(torch.zeros(1, 375, 256), [1], None, max_new_tokens=1)
    assert model.training
    assert not inner.audio_tower.training
    assert inner.language_model.training
    assert not any(module.training for module in model.eval().modules())


def test_checkpointing_changes_no_gradient_and_spares_the_encoder(
    make: Maker, features: Tensor
) -> None:
    plain, saving = make(), make(gradient_checkpointing=True)
    inner = saving.net.base_model.model.model
    runs = {"encoder": 0, "layer": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            runs[name] += 1

        return hook

    inner.audio_tower.layers[0].fc1.register_forward_pre_hook(count("encoder"))
    inner.language_model.layers[0].mlp.register_forward_pre_hook(count("layer"))
    encoded = saving.encode(features)
    expected, found = backward(plain, encoded), backward(saving, encoded)
    assert runs == {"encoder": 3, "layer": 2}
    assert found[0] == expected[0]
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-5, atol=1e-6)
    texts = saving.generate(encoded, CHUNKS, None)
    assert texts == plain.generate(encoded, CHUNKS, None)


def test_the_loops_precision_changes_nothing(make: Maker, features: Tensor) -> None:
    model = make(dtype="bf16")
    encoded = model.encode(features)
    expected = model.loss(encoded, CHUNKS, TEXTS, None)[0]
    texts = model.generate(encoded, CHUNKS, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = model.encode(features)
        assert torch.equal(again, encoded)
        assert torch.equal(model.loss(again, CHUNKS, TEXTS, None)[0], expected)
        assert model.generate(again, CHUNKS, None) == texts
    assert encoded.dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_an_adapter_learns_to_write_a_transcript(make: Maker, encoded: Tensor) -> None:
    model = make(adapted=False, lora=LoRA(rank=16, alpha=64, dropout=0.0))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    first = last = float("nan")
    for step in range(25):
        optimizer.zero_grad()
        total, count = model.loss(encoded[:1], [1], ["gggg"], None)
        (total / count).backward()
        optimizer.step()
        last = float(total.detach() / count)
        first = last if step == 0 else first
    assert last < first - 0.3


def test_what_does_not_fit_together_is_refused(make: Maker, encoded: Tensor) -> None:
    model = make()
    with pytest.raises(DataError, match="3 chunks of audio, but the utterances have"):
        model.loss(encoded, (1, 1), TEXTS, None)
    with pytest.raises(ConfigError, match="did you mean 'ko'"):
        model.generate(encoded, CHUNKS, "korean")
    with pytest.raises(ConfigError, match="max_new_tokens must be at least 1"):
        make(max_new_tokens=0)


def test_what_was_chosen_is_described(make: Maker, tiny: Path) -> None:
    lines = "\n".join(make(dtype="bf16").describe())
    assert f"base {tiny} (Voxtral), bf16, not quantised: weights of 0.001 GB" in lines
    name, reason = choose_attention("auto", dtype=torch.bfloat16)
    assert f"attention {name} ({reason})" in lines
    assert "adapter 3,584 parameters on 2 layers" in lines


def test_another_base_is_refused_when_an_adapter_is_used(
    make: Maker, tiny: Path, tmp_path: Path
) -> None:
    assets = tmp_path / "kept"
    make(assets=assets)
    make(assets=assets)  # a resumed run finds the same base
    other = write_tiny(tmp_path / "other", seed=9)
    wrong = SpeechLLM(base=str(other), lora=LoRA(), quantization="none", dtype="float32")
    with pytest.raises(CheckpointError, match="differs in its projector, samples"):
        wrong.setup(RunContext(assets=assets))
    with pytest.raises(CheckpointError, match=r"speech_llm_base\.json is missing"):
        wrong.setup(RunContext(assets=tmp_path / "none", training=False))


def test_eager_attention_agrees(make: Maker, features: Tensor, encoded: Tensor) -> None:
    sdpa, eager = make(), make(attention="eager")
    assert eager.net.config._attn_implementation == "eager"
    torch.testing.assert_close(eager.encode(features[:1]), encoded[:1], rtol=1e-4, atol=1e-4)
    losses = [float(m.loss(encoded[:1], [1], ["a"], None)[0].detach()) for m in (sdpa, eager)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_dropout_is_of_adapters_in_training_alone(make: Maker, encoded: Tensor) -> None:
    model = make(lora=LoRA(dropout=0.5)).train()

    def loss() -> float:
        return float(model.loss(encoded[:1], [1], ["a"], None)[0].detach())

    assert loss() != loss()
    model.eval()
    assert loss() == loss()


def test_adapters_of_the_language_model_are_possible(make: Maker, encoded: Tensor) -> None:
    model = make(adapted=False, lora=LoRA(targets=("q_proj", "v_proj"), dropout=0.0))
    found = backward(model, encoded)[1]
    assert len(found) == 2 * 2 * 2
    assert all("language_model" in name for name in found)


def test_stored_rows_need_no_encoder_in_training(
    make: Maker, features: Tensor, encoded: Tensor, tmp_path: Path
) -> None:
    whole, spared = make(), make(with_encoder=False)
    assert backward(spared, encoded)[0] == backward(whole, encoded)[0]
    assert spared.generate(encoded, CHUNKS, "ko") == whole.generate(encoded, CHUNKS, "ko")
    encoder = sum(p.numel() for n, p in whole.named_parameters() if "audio_tower" in n)
    counts = [sum(p.numel() for p in model.parameters()) for model in (whole, spared)]
    assert encoder > 0
    assert counts == [counts[1] + encoder, counts[1]]
    assert any("without its encoder" in line for line in spared.describe())
    with pytest.raises(ConfigError, match=r"data\.features"):
        spared.encode(features)


def test_in_use_the_encoder_is_there(make: Maker, tiny: Path, tmp_path: Path) -> None:
    trained = make(with_encoder=False, assets=tmp_path / "kept")
    used = SpeechLLM(
        base=str(tiny), lora=LoRA(), dtype="float32", quantization="none", with_encoder=False
    )
    used.setup(RunContext(assets=tmp_path / "kept", training=False))
    load_strict(used, trained.state_dict(), source="the run")
    rows = used.eval().encode(torch.zeros(1, 128, 3000))
    assert rows.shape == (1, 375, 256)
