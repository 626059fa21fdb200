from __future__ import annotations

from typing import Any

import fiddle as fdl
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from components.encoders.blstm import BLSTMEncoder
from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.nemo.settings import settings_of
from components.nemo.transfer import export_from, import_into
from core.errors import CheckpointError
from tests.components.nemo.models import GOLDEN, MINI, make_task, nemo_shapes, nemo_state

SHAPES: dict[str, Any] = {
    "dim": 32,
    "layers": 2,
    "heads": 4,
    "kernel": 9,
    "channels": 8,
    "classes": 64,
}


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def ctc_task() -> nn.Module:
    from experiments.stage1_ctc import experiment

    config = experiment()
    config.task.encoder = fdl.Config(ConformerEncoder, **MINI)
    task = fdl.build(config.task)
    task.encoder.setup(input_dim=80)
    task.head.setup(input_dim=32, vocab_size=29)
    assert isinstance(task, nn.Module)
    return task


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize("file", ["mini_state", "mini_train_init_state", "mini_train"])
def test_golden_state_into_a_task_and_out_again(file: str) -> None:
    tensors = load_file(GOLDEN / f"{file}.safetensors")
    final = {n.removeprefix("final."): t for n, t in tensors.items() if n.startswith("final.")}
    state = final or tensors
    task = make_task()
    report = import_into(task, state)
    assert [part.name for part in report.taken] == ["masking", "quantizer", "encoder", "head"]
    assert report.fresh == {"use": "not in the file"}
    assert report.unused == ()
    assert "features agree with the file's window and filter bank" in report.notes
    again = export_from(task)
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            assert int(again[name]) == 0  # it decides nothing, and a task does not keep it
        elif name.endswith(".fb"):
            torch.testing.assert_close(again[name], tensor, atol=1e-8, rtol=0)
        else:
            assert again[name].dtype == tensor.dtype
            assert torch.equal(again[name], tensor), name


@pytest.mark.parametrize(("layers", "keys"), [(17, 699), (18, 739)])
def test_the_keys_of_large_are_exactly_nemos(layers: int, keys: int) -> None:
    shapes = nemo_shapes(dim=512, layers=layers, heads=8, kernel=9, channels=256)
    assert len(shapes) == keys
    with torch.device("meta"):
        task = _meta_task(layers=layers)
    exported = {name: tuple(tensor.shape) for name, tensor in export_from(task).items()}
    assert exported == shapes


def _meta_task(layers: int) -> nn.Module:
    from components.features.log_mel import LogMel
    from components.heads.multi_softmax import MultiSoftmaxHead
    from components.losses.masked_prediction import MaskedPredictionLoss
    from components.masking.random_block import RandomBlockMasking
    from components.quantizers.random_projection import RandomProjectionQuantizer
    from components.tasks.masked_prediction import MaskedPredictionTask

    task = MaskedPredictionTask(
        features=LogMel(),
        masking=RandomBlockMasking(),
        quantizer=RandomProjectionQuantizer(),
        encoder=ConformerEncoder(
            dim=512,
            layers=layers,
            heads=8,
            kernel_size=9,
            subsampling=8,
            subsampling_method="dw_striding",
        ),
        head=MultiSoftmaxHead(),
        loss=MaskedPredictionLoss(),
    )
    task.outline()
    return task


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ({"books": 3}, {"books": 3}),
        ({"bias": False}, {"bias": False}),
        ({"mels": 128}, {"mels": 128}),
        ({"method": "striding", "factor": 4}, {"subsampling_method": "conv2d", "subsampling": 4}),
        (
            {"causal": True, "norm": "layer_norm"},
            {"causal_subsampling": True} | {"conv_norm": "layer_norm"},
        ),
    ],
    ids=str,
)
def test_other_forms_into_a_task_and_out_again(file: dict[str, Any], model: dict[str, Any]) -> None:
    state = nemo_state(**(SHAPES | file))
    task = make_task(**model)
    import_into(task, state)
    again = export_from(task)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"layers": 3}, r"task\.encoder\.layers: 2 -> 3; task\.encoder\.layers=2 would fit"),
        ({"dim": 64}, r"task\.encoder\.dim: 32 -> 64"),
        ({"heads": 2}, r"task\.encoder\.heads: 4 -> 2"),
        ({"bias": False}, r"task\.encoder\.bias=true would fit"),
        ({"kernel_size": 7}, r"task\.encoder\.kernel_size=9 would fit"),
        ({"conv_norm": "layer_norm"}, r"task\.encoder\.conv_norm=batch_norm would fit"),
        ({"subsampling_channels": 4}, r"task\.encoder\.subsampling_channels: 8 -> 4"),
        ({"subsampling_method": "conv2d"}, r"task\.encoder\.subsampling_method=dw_striding"),
        ({"causal_subsampling": True}, r"task\.encoder\.causal_subsampling=false would fit"),
        ({"books": 2}, r"task\.quantizer\.num_books=1 would fit"),
        ({"classes": 32}, r"task\.quantizer\.codebook_size: 64 -> 32"),
        ({"mels": 64}, r"(?s)features\.filters: .*task\.features\.num_bins=80 would fit"),
    ],
    ids=str,
)
def test_another_architecture_is_refused_with_what_to_set(
    model: dict[str, Any], message: str
) -> None:
    task = make_task(**model)
    before = copied(task)
    with pytest.raises(CheckpointError, match=message):
        import_into(task, nemo_state(**SHAPES))
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_a_refusal_names_a_setting_once_under_the_module_that_has_it() -> None:
    with pytest.raises(CheckpointError) as caught:
        import_into(make_task(dim=64, classes=32), nemo_state(**SHAPES))
    lines = str(caught.value).splitlines()
    assert sum("task.encoder.dim: 32 -> 64" in line for line in lines) == 1
    assert sum("task.quantizer.codebook_size: 64 -> 32" in line for line in lines) == 1
    head = next(n for n, line in enumerate(lines) if line.strip().startswith("head: "))
    assert not any("task." in line for line in lines[head:])


def test_a_head_with_and_one_without_bias() -> None:
    state = nemo_state(**SHAPES)
    del state["decoder.decoder_layers.0.bias"]
    with pytest.raises(CheckpointError, match=r"task\.head\.use_bias=false would fit"):
        import_into(make_task(), state)


def test_bins_that_only_the_mask_shows_are_told_once() -> None:
    state = {n: t for n, t in nemo_state(**SHAPES).items() if not n.startswith("preprocessor")}
    with pytest.raises(CheckpointError) as caught:
        import_into(make_task(mels=64), state)
    assert str(caught.value).count("task.features.num_bins: 80 -> 64") == 1


def test_other_features_say_which_settings_differ() -> None:
    task = make_task()
    config = settings_file()
    config["preprocessor"] |= {"highfreq": 7600, "lowfreq": 20.0}
    state = nemo_state(**SHAPES)
    wide = LogMel(min_frequency=20.0, max_frequency=7600.0).filters
    state["preprocessor.featurizer.fb"] = wide.T.unsqueeze(0).contiguous()
    with pytest.raises(CheckpointError) as caught:
        import_into(task, state, config=config)
    text = str(caught.value)
    assert "features.filters: differs by up to" in text
    assert "highfreq: 7600 in the file, 8000.0 here (task.features.max_frequency)" in text
    assert "lowfreq: 20.0 in the file, 0.0 here (task.features.min_frequency)" in text


def test_other_features_of_the_same_shape_are_refused() -> None:
    state = nemo_state(**SHAPES)
    state["preprocessor.featurizer.fb"] = state["preprocessor.featurizer.fb"] * 1.1
    with pytest.raises(CheckpointError, match=r"features\.filters: differs by up to 0\.00"):
        import_into(make_task(), state)


def test_features_that_the_file_lacks_are_told() -> None:
    state = {n: t for n, t in nemo_state(**SHAPES).items() if not n.startswith("preprocessor")}
    notes = import_into(make_task(), state).notes
    assert "the features could not be compared with those that the file was trained on" in notes


def test_a_transcribing_task_takes_the_encoder_alone() -> None:
    task: Any = ctc_task()
    head = task.head.weight.clone()
    state = nemo_state(**SHAPES)
    report = import_into(task, state)
    assert [part.name for part in report.taken] == ["encoder"]
    assert set(report.unused) == {
        "decoder.decoder_layers.0.weight",
        "decoder.decoder_layers.0.bias",
        "mask_processor.mask_embedding",
        "quantizer.proj.weight",
        "quantizer.codebooks",
    }
    assert torch.equal(task.head.weight, head)
    exported = export_from(task)
    assert exported.keys() == {n for n in state if n.startswith(("encoder.", "preprocessor."))}
    assert all(torch.equal(exported[n], state[n]) for n in exported if "tracked" not in n)


def test_an_encoder_by_itself() -> None:
    encoder = ConformerEncoder(**MINI)
    encoder.setup(input_dim=80)
    state = nemo_state(**SHAPES)
    import_into(encoder, state)
    exported = export_from(encoder)
    assert exported.keys() == {name for name in state if name.startswith("encoder.")}
    assert all(torch.equal(exported[name], state[name]) for name in exported)


def test_an_encoder_that_nemo_does_not_know_has_no_form_there() -> None:
    encoder = BLSTMEncoder()
    encoder.setup(input_dim=80)
    with pytest.raises(CheckpointError, match="BLSTMEncoder has no form in NeMo"):
        export_from(encoder)


def test_stray_tensors_are_named_and_half_precision_is_told() -> None:
    state = nemo_state(**SHAPES) | {"decoder_ssl.weight": torch.ones(3)}
    name = "encoder.layers.0.norm_out.weight"
    state[name] = state[name].bfloat16()
    task: Any = make_task()
    report = import_into(task, state)
    assert report.unused == ("decoder_ssl.weight",)
    assert "1 tensors converted from bfloat16 to float32" in report.notes
    assert "not used  decoder_ssl: 1 tensor in the file" in report.lines()
    assert torch.equal(task.encoder.layers[0].norm_out.weight, state[name].float())


# ------------------------------------------------------------------------------------- settings


def settings_file(**encoder: Any) -> dict[str, Any]:
    sections = settings_of(make_task())
    sections["encoder"] |= encoder
    return dict(sections)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            {"xscaling": False},
            r"encoder\.xscaling: False in the file, True here \(task\.encoder\.scale",
        ),
        (
            {"att_context_size": [70, 13]},
            r"att_context_size: \[70, 13\] in the file, \[-1, -1\] here",
        ),
        (
            {"conv_context_size": "causal"},
            r"conv_context_size: \[8, 0\] in the file, \[4, 4\] here",
        ),
        ({"self_attention_model": "abs_pos"}, r"self_attention_model: abs_pos in the file"),
    ],
    ids=str,
)
def test_settings_that_shapes_do_not_show_are_compared(
    encoder: dict[str, Any], message: str
) -> None:
    task, state = make_task(), nemo_state(**SHAPES)
    before = copied(task)
    with pytest.raises(CheckpointError, match=message):
        import_into(task, state, config=settings_file(**encoder))
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    report = import_into(task, state, config=settings_file(**encoder), other_settings=True)
    assert any(note.startswith("accepted: encoder.") for note in report.notes)


def test_interpolations_other_spellings_and_several_contexts_are_understood() -> None:
    config: dict[str, Any] = {
        "model": {
            "scale": True,
            "encoder": {
                "xscaling": "${model.scale}",
                "att_context_size": [[70, 13], [-1, -1]],
                "att_context_style": "chunked_limited",
                "conv_context_size": [4, 4],
                "dropout": 0.3,
                "self_attention_model": "${oc.env:MODEL}",
            },
        }
    }
    task = make_task()
    report = import_into(task, nemo_state(**SHAPES), config=config)
    assert "in training: encoder.dropout: 0.3 in the file, 0.1 here" in report.notes
    assert not [note for note in report.notes if note.startswith("accepted")]
    config["model"]["scale"] = False
    with pytest.raises(CheckpointError, match="xscaling: False in the file, True here"):
        import_into(task, nemo_state(**SHAPES), config=config)


def test_a_setting_that_the_file_leaves_out_has_nemos_default() -> None:
    config = settings_file()
    del config["encoder"]["xscaling"]
    import_into(make_task(), nemo_state(**SHAPES), config=config)
    with pytest.raises(CheckpointError, match="xscaling: True in the file, False here"):
        import_into(make_task(scale_input=False), nemo_state(**SHAPES), config=config)
