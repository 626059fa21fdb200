from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from components.indextts.transfer import Choices, import_into
from components.models.unified_voice import UnifiedVoice
from core.errors import CheckpointError
from tests.components.models.published import shapes
from tests.components.models.tiny import TINY, make_model

EMBED = "emo_conditioning_encoder.embed"


class Task(nn.Module):
    """What a task looks like to an importer: a model, and a part that is not the model's."""

    def __init__(self, model: UnifiedVoice) -> None:
        super().__init__()
        self.model = model
        self.classifier = nn.Linear(64, 3)


def checkpoint(*, seed: int = 9, **changes: int) -> dict[str, Tensor]:
    """Return a random checkpoint of the tiny size, by the published names."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in shapes(**(TINY | changes)).items()
    }


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_holds(module: nn.Module, state: dict[str, Tensor]) -> None:
    own = module.state_dict()
    assert own.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(own[name], tensor), name


def test_every_tensor_of_the_published_form_is_taken() -> None:
    model, state = make_model(), checkpoint()
    report = import_into(model, state, source="gpt.pth")
    assert_holds(model, state)
    assert sum(part.tensors for part in report.taken) == len(state)
    assert sum(part.values for part in report.taken) == sum(t.numel() for t in state.values())
    assert {part.name for part in report.taken} == {name for name, _ in model.named_children()}
    assert (report.fresh, report.unused, report.notes) == ({}, (), ())


def test_a_task_takes_its_model_and_says_what_stays_fresh() -> None:
    task, state = Task(make_model()), checkpoint()
    before = snapshot(task.classifier)
    report = import_into(task, state, source="gpt.pth")
    assert_holds(task.model, state)
    assert_holds(task.classifier, before)
    assert report.fresh == {"classifier": "no part of published checkpoints"}


def test_names_of_wrappers_are_understood() -> None:
    state = checkpoint()
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    model = make_model()
    report = import_into(model, wrapped, source="x")
    assert_holds(model, state)
    assert f"'_orig_mod.' left out of {len(state)} names" in report.notes
    inner = {n.replace("gpt.h.", "gpt._orig_mod.h."): t for n, t in state.items()}
    import_into(make_model(), inner, source="x")


def test_what_is_no_weight_is_put_aside_and_told() -> None:
    state = checkpoint()
    extra = {
        "gpt.h.0.attn.bias": torch.ones(1, 1, 4, 4),
        "gpt.h.1.attn.masked_bias": torch.tensor(-1e4),
        "gpt.wte.weight": state["mel_embedding.weight"],
        "inference_model.transformer.ln_f.weight": torch.ones(64),
        "gpt.h.0.attn.c_attn.lora_A.default.weight": torch.ones(2, 64),
        "speaker_classifier.net.0.weight": torch.ones(3, 64),
    }
    based = {
        n.replace("h.0.attn.c_attn.", "h.0.attn.c_attn.base_layer."): t for n, t in state.items()
    }
    model = make_model()
    report = import_into(model, {**based, **extra}, source="x")
    assert_holds(model, state)
    assert set(report.unused) == set(extra)
    told = "\n".join(report.lines())
    assert "not used, 2: causal masks of older transformers" in told
    assert "not used, 1: factors of an adapter that was not merged: what it learnt is lost" in told
    assert "'base_layer.' left out of 2 names" in told


def test_the_same_tensor_under_two_names_must_have_one_value() -> None:
    state = checkpoint()
    name = "final_norm.weight"
    report = import_into(
        make_model(), {**state, f"_orig_mod.{name}": state[name].clone()}, source="x"
    )
    assert report.unused == (f"_orig_mod.{name}",)
    with pytest.raises(CheckpointError, match=r"x has final_norm\.weight twice, with other values"):
        import_into(make_model(), {**state, f"_orig_mod.{name}": state[name] + 1}, source="x")


def test_a_position_table_that_the_file_lacks_is_computed() -> None:
    state = {n: t for n, t in checkpoint().items() if not n.endswith("pos_enc.pe")}
    model = make_model()
    table = model.conditioning_encoder.embed.pos_enc.pe.clone()
    report = import_into(model, state, source="x")
    assert torch.equal(model.conditioning_encoder.embed.pos_enc.pe, table)
    assert report.fresh["conditioning_encoder.embed.pos_enc.pe"] == "computed"


def test_half_precision_is_converted_and_told() -> None:
    state = {name: tensor.bfloat16() for name, tensor in checkpoint().items()}
    model = make_model()
    report = import_into(model, state, source="x")
    assert report.notes == (f"{len(state)} tensors converted from bfloat16 to float32",)
    assert_holds(model, {name: tensor.float() for name, tensor in state.items()})


@pytest.mark.parametrize(("have", "want"), [(64, 80), (80, 64)])
def test_another_vocabulary_is_taken_by_id_where_that_is_asked_for(have: int, want: int) -> None:
    state, model = checkpoint(text_vocab=have), make_model(text_vocab=want)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=r"resize_vocabulary=true takes the tokens") as caught:
        import_into(model, state, source="x")
    assert "fresh=" not in str(caught.value)
    assert_holds(model, before)
    report = import_into(model, state, source="x", choices=Choices(resize_vocabulary=True))
    rows = min(have, want) + 1
    for name in ("text_embedding.weight", "text_head.weight", "text_head.bias"):
        own = model.state_dict()[name]
        assert torch.equal(own[:rows], state[name][:rows])
        assert torch.equal(own[rows:], before[name][rows:])
    rest = "16 fresh" if want > have else "16 of the file's left out"
    assert f"resized text_head.bias: 65 rows taken by id, {rest}" in report.notes
    taken = {part.name: part.values for part in report.taken}
    assert taken["text_embedding"] == rows * 64


def test_features_of_another_kind_need_a_fresh_input() -> None:
    state, model = checkpoint(), make_model(emotion_features=40)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=rf"fresh={EMBED} leaves these as they were drawn"):
        import_into(model, state, source="x")
    assert_holds(model, before)
    report = import_into(model, state, source="x", choices=Choices(fresh=(EMBED,)))
    own = model.state_dict()
    for name, tensor in own.items():
        expected = before[name] if name.startswith(f"{EMBED}.") else state[name]
        assert torch.equal(tensor, expected), name
    assert report.fresh[EMBED] == (
        "5 tensors, by fresh=; emo_conditioning_encoder.embed.out.0.weight is [32, 288] in the "
        "file, [32, 608] here"
    )
    assert set(report.unused) == {name for name in state if name.startswith(f"{EMBED}.")}


def test_a_whole_branch_that_the_file_lacks() -> None:
    state = {n: t for n, t in checkpoint().items() if not n.startswith("emo")}
    with pytest.raises(CheckpointError, match="not in file") as caught:
        import_into(make_model(), state, source="x")
    branch = ("emo_conditioning_encoder", "emo_perceiver_encoder", "emo_layer", "emovec_layer")
    (hint,) = [line for line in str(caught.value).splitlines() if "fresh=" in line]
    assert set(hint.strip().removeprefix("fresh=").partition(" ")[0].split(",")) == {
        *branch,
    }
    report = import_into(make_model(), state, source="x", choices=Choices(fresh=branch))
    assert report.fresh["emo_layer"] == "2 tensors, by fresh=; 2 tensors are not in the file"


def test_a_deeper_file_is_refused_unless_its_layers_are_passed_over() -> None:
    state, model = checkpoint(layers=3), make_model()
    with pytest.raises(CheckpointError, match=r"ignore=gpt\.h\.2 passes over"):
        import_into(model, state, source="x")
    report = import_into(model, state, source="x", choices=Choices(ignore=("gpt.h.2",)))
    assert len(report.unused) == 12
    assert "not used, 12: by ignore=" in report.notes


def test_a_missing_layer_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"fresh=gpt\.h\.2 leaves"):
        import_into(make_model(layers=3), checkpoint(), source="x")


def test_choices_that_name_nothing_are_refused() -> None:
    choices = Choices(fresh=("emo_layr",), ignore=("gpt.h.7",))
    with pytest.raises(
        CheckpointError, match="fresh=emo_layr: not in the model; did you mean"
    ) as e:
        import_into(make_model(), checkpoint(), source="x", choices=choices)
    assert "ignore=gpt.h.7: not in the file" in str(e.value)
    # A part of a name is no name.
    with pytest.raises(CheckpointError, match="fresh=emo: not in the model"):
        import_into(make_model(), checkpoint(), source="x", choices=Choices(fresh=("emo",)))


def test_another_width_is_refused_without_loading_anything() -> None:
    model = make_model()
    before = snapshot(model)
    with pytest.raises(CheckpointError, match="other shape") as caught:
        import_into(model, checkpoint(dim=128), source="x")
    assert "fresh=" not in str(caught.value)
    assert_holds(model, before)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(CheckpointError, match="nothing in x fits this model"):
        import_into(make_model(), {"encoder.weight": torch.ones(2)}, source="x")
    with pytest.raises(CheckpointError, match="Linear has no form in IndexTTS2"):
        import_into(nn.Linear(2, 2), checkpoint(), source="x")
