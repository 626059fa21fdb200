from __future__ import annotations

from pathlib import Path

from transformers import AutoProcessor, VoxtralForConditionalGeneration, VoxtralProcessor

from components.speech_llm.tiny import TOKENIZER, write_tiny


def test_it_has_the_published_architecture_at_a_tiny_size(tiny: Path) -> None:
    model = VoxtralForConditionalGeneration.from_pretrained(tiny)
    assert sum(p.numel() for p in model.parameters()) == 368_448
    projector = model.model.multi_modal_projector
    assert projector.linear_1.in_features == 4 * model.config.audio_config.hidden_size
    assert model.config.audio_token_id == 24
    assert model.generation_config.eos_token_id == 2


def test_the_tokenizer_is_small_and_writes_every_text(tiny: Path) -> None:
    assert (tiny / TOKENIZER).stat().st_size < 20_000
    processor = AutoProcessor.from_pretrained(tiny)
    assert isinstance(processor, VoxtralProcessor)
    for text in ("안녕하세요, 3.5㎎ 주세요!", "naïve 🎵", ""):
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert processor.tokenizer.decode(ids) == text
        assert len(ids) == len(text.encode())


def test_a_seed_gives_the_same_bytes_and_draws_nothing_from_the_caller(
    tiny: Path, tmp_path: Path
) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = write_tiny(tmp_path / "again")
    assert torch.equal(torch.rand(3), expected)
    other = write_tiny(tmp_path / "other", seed=1)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (tiny, again, other)]
    assert weights[0] == weights[1] != weights[2]


def test_a_wider_one_can_be_made(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, hidden=96, layers=1)
    config = VoxtralForConditionalGeneration.from_pretrained(folder).config
    assert config.text_config.hidden_size == 96
    assert config.text_config.num_hidden_layers == config.audio_config.num_hidden_layers == 1
