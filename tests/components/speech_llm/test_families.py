from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoProcessor

from components.features.whisper import WhisperFeatures
from components.speech_llm.families import FAMILIES, UNSUPPORTED, VOXTRAL_MINI, family_of
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from core.contracts import RunContext
from core.errors import ConfigError, DataError, SoriError
from tests.components.speech_llm.other_families import write_family

OTHERS = ("audioflamingo3", "glmasr", "qwen3_asr")
SAMPLES = (16_000 * 3 + 123, 480_000, 4_000)
TEXTS = ("안녕", "hello", "x")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_family(tmp_path_factory.mktemp(name), name) for name in OTHERS}


@pytest.fixture(scope="module")
def recordings() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [0.1 * torch.randn(size, generator=generator) for size in SAMPLES]


def loaded(folder: Path, assets: Path) -> SpeechLLM:
    model = SpeechLLM(
        base=str(folder), lora=LoRA(), quantization="none", dtype="float32", max_new_tokens=4
    )
    model.setup(RunContext(assets=assets))
    return model.eval()


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_losses_and_transcripts_are_those_of_the_familys_own_processor(
    name: str, folders: dict[str, Path], recordings: list[Tensor], tmp_path: Path
) -> None:
    folder = folders[name]
    model, processor = loaded(folder, tmp_path), AutoProcessor.from_pretrained(folder)
    plain = getattr(transformers, FAMILIES[name].model_class).from_pretrained(folder).eval()
    language = "ko" if name == "qwen3_asr" else None
    asked = {"language": language, "audio_kwargs": {"padding": "max_length"}} if language else {}
    expected, heard = 0.0, []
    for audio, text in zip(recordings, TEXTS, strict=True):
        inputs = processor.apply_transcription_request(audio=[audio.numpy()], **asked)
        answer = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        answer = torch.tensor([[*answer, processor.tokenizer.eos_token_id]])
        ids = torch.cat([inputs["input_ids"], answer], dim=1)
        labels = ids.clone()
        length = inputs["input_ids"].shape[1]
        labels[:, :length] = -100
        audible = {key: inputs[key] for key in ("input_features", "input_features_mask")}
        expected += float(plain(input_ids=ids, labels=labels, **audible).loss) * answer.numel()
        made = plain.generate(**inputs, max_new_tokens=4, do_sample=False)[0, length:]
        heard.append(processor.tokenizer.decode(made, skip_special_tokens=True).strip())
    extract = WhisperFeatures()
    features = torch.cat([extract(audio) for audio in recordings])
    encoded = model.encode(features, chunks=[1, 1, 1], samples=SAMPLES)
    total, _ = model.loss(encoded, [1, 1, 1], TEXTS, language, samples=SAMPLES)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert model.generate(encoded, [1, 1, 1], language, samples=torch.tensor(SAMPLES)) == heard


@pytest.mark.parametrize("name", OTHERS)
def test_both_layers_of_the_projector_are_adapted(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = loaded(folders[name], tmp_path)
    assert sorted(model.net.targeted_module_names) == [
        "model.multi_modal_projector.linear_1",
        "model.multi_modal_projector.linear_2",
    ]


def test_the_end_of_the_audio_must_be_known_where_padding_is_left_out(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = loaded(folders["glmasr"], tmp_path)
    encoded = torch.zeros(2, 375, 128)
    with pytest.raises(DataError, match="samples of each utterance are needed"):
        model.loss(encoded, [1, 1], ["a", "b"], None)
    with pytest.raises(DataError, match=r"has 2 chunks of 30 s; GLM-ASR takes 1: cut the audio"):
        model.loss(encoded, [2], ["a"], None, samples=[600_000])


@pytest.mark.parametrize(
    ("name", "language", "said"),
    [
        ("glmasr", "ko", "GLM-ASR names no language; leave it None"),
        ("audioflamingo3", "en", "Audio Flamingo 3 names no language"),
        ("qwen3_asr", None, "set language, such as language=ko"),
        ("qwen3_asr", "korean", "Qwen3-ASR has no language 'korean'; did you mean 'ko'"),
        ("qwen3_asr", "kk", "Qwen3-ASR has no language 'kk'; did you mean"),
    ],
)
def test_languages_are_checked(
    name: str, language: str | None, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = loaded(folders[name], tmp_path)
    with pytest.raises(ConfigError, match=said):
        model.generate(torch.zeros(1, 750, 128), [1], language, samples=[16_000])


@pytest.mark.parametrize("model_type", sorted(UNSUPPORTED))
def test_other_speech_models_are_refused_with_what_is_missing(model_type: str) -> None:
    with pytest.raises(ConfigError, match="cannot be adapted: ") as refusal:
        family_of(model_type, source="there")
    assert UNSUPPORTED[model_type] in str(refusal.value)
    assert all(name in str(refusal.value) for name in FAMILIES)


def test_unsupported_ones_exist() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(UNSUPPORTED) <= set(CONFIG_MAPPING_NAMES)
    assert set(FAMILIES) <= set(CONFIG_MAPPING_NAMES)


def test_what_is_no_speech_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'voxtral'"):
        family_of("voxtrall", source="there")
    with pytest.raises(ConfigError, match="valid families"):
        family_of("bert", source="there")


def test_refusals_are_typed_when_a_folder_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "voxtral_realtime"}')
    model = SpeechLLM(base=str(tmp_path), lora=LoRA())
    with pytest.raises(SoriError, match="need the time of every word"):
        model.setup(RunContext(assets=tmp_path / "assets"))


def test_the_published_model_has_a_family() -> None:
    assert VOXTRAL_MINI in FAMILIES["voxtral"].published


@pytest.mark.parametrize(("seconds", "rows"), [(30.0, 750), (15.0, 375), (0.25, 6)])
def test_rows_of_audio_flamingo(seconds: float, rows: int) -> None:
    count = FAMILIES["audioflamingo3"].rows_of
    assert count is not None
    assert count(round(seconds * 100)) == rows


@pytest.mark.parametrize(("frames", "rows"), [(3000, 390), (100, 13), (99, 13), (101, 14), (8, 1)])
def test_rows_of_qwen(frames: int, rows: int) -> None:
    count = FAMILIES["qwen3_asr"].rows_of
    assert count is not None
    assert count(frames) == rows
