from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from components.speech_llm.base import find_base, load_base
from components.speech_llm.families import VOXTRAL_MINI
from components.speech_llm.missing import config_file, locate, read_config, weight_names
from core.errors import CheckpointError, ConfigError
from tests.components.speech_llm.other_families import write_family


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(cache))
    return cache


def cached(cache: Path, files: Path, *, without: str = "") -> Path:
    """Put a folder into a hub cache, as a download would."""
    repository = cache / f"models--{VOXTRAL_MINI.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(files, snapshot)
    if without:
        (snapshot / without).unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    return snapshot


def test_a_model_that_is_nowhere_is_one_line_with_files_and_place(empty_cache: Path) -> None:
    with pytest.raises(CheckpointError) as refusal:
        load_base(VOXTRAL_MINI)
    message = str(refusal.value)
    assert "\n" not in message
    for part in (VOXTRAL_MINI, "config.json", "tekken.json", "model.safetensors.index.json"):
        assert part in message
    assert str(empty_cache) in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "base=FOLDER" in message


def test_a_download_that_fails_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"the download failed \(") as refusal:
        locate("nobody/nothing", tokenizer_files=("tekken.json",))
    assert "\n" not in str(refusal.value)


def test_all_that_a_processor_is_made_of_is_downloaded(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    asked: list[str] = []

    def download(_: str, *, allow_patterns: list[str] | None = None, **__: object) -> str:
        if allow_patterns is None:
            raise OSError("not in the cache")
        asked.extend(allow_patterns)
        return str(tiny)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    locate("some/model", tokenizer_files=("tekken.json",))
    made = {file.name for file in write_family(tmp_path / "glm", "glmasr").iterdir()}
    older = {"chat_template.json", "special_tokens_map.json", "vocab.json", "merges.txt"}
    assert "chat_template.jinja" in made
    assert list(filter_repo_objects(sorted(made | older), allow_patterns=asked)) == sorted(
        made | older
    )


def test_a_complete_cache_is_used_and_an_incomplete_one_named(
    tiny: Path, empty_cache: Path
) -> None:
    snapshot = cached(empty_cache, tiny)
    folder, family = find_base(VOXTRAL_MINI)
    assert folder == snapshot
    assert family.model_type == "voxtral"
    assert config_file(VOXTRAL_MINI) == snapshot / "config.json"
    (snapshot / "tekken.json").unlink()
    with pytest.raises(CheckpointError, match=r"not on this machine: tekken\.json not in"):
        find_base(VOXTRAL_MINI)


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model.safetensors", "model.safetensors.index.json with its shards"),
        ("tekken.json", "tekken.json"),
    ],
)
def test_a_folder_without_a_file_says_which(
    tiny: Path, tmp_path: Path, lost: str, named: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    (folder / lost).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {named}") as refusal:
        load_base(str(folder))
    assert str(folder) in str(refusal.value)


def test_shards_are_asked_for_by_the_index(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    shutil.move(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert weight_names(folder) == sorted(names.values())
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00002\.safetensors"):
        load_base(str(folder))
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="is no index of safetensors files"):
        load_base(str(folder))


def test_a_folder_that_is_not_there_is_no_id(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"no folder {tmp_path}/none; it must hold"
    ) as refusal:
        load_base(str(tmp_path / "none"))
    others = "Audio Flamingo 3, GLM-ASR, Qwen3-ASR"
    wanted = f"tekken.json (for Voxtral) or tokenizer.json (for {others})"
    assert wanted in str(refusal.value), "what a family has no use for is not asked of it"
    with pytest.raises(CheckpointError, match=r"config\.json, tekken\.json, model"):
        locate(str(tmp_path / "none"), tokenizer_files=("tekken.json",))


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(file)
    file.write_text('{"hidden_size": 3}')
    with pytest.raises(ConfigError, match="names no model_type"):
        read_config(file)
