"""Random folders of the families beside Voxtral, with tokenizers of bytes, made offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GlmAsrConfig,
    GlmAsrForConditionalGeneration,
    GlmAsrProcessor,
    PreTrainedTokenizerFast,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
    WhisperFeatureExtractor,
)

from components.speech_llm.packages import quietly

SPECIALS = ["<pad>", "<|im_start|>", "<|im_end|>", "<sound>", "<bos>", "<eos>", "<asr_text>"]
AUDIO = SPECIALS.index("<sound>")
END = SPECIALS.index("<|im_end|>")
VOCABULARY = 256 + len(SPECIALS)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}BEFORE<sound>AFTER{% endif %}{% endfor %}"
    "{% if not (continue_final_message and loop.last) %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": END,
}
ENCODER = {"num_mel_bins": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_family(folder: Path, model_type: str) -> Path:
    """Write a folder that transformers loads as a model of the family."""
    torch.manual_seed(1)
    model, processor = {
        "audioflamingo3": _audio_flamingo,
        "glmasr": _glm,
        "qwen3_asr": _qwen,
    }[model_type]()
    for parameter in model.parameters():  # Untrained heads give near ties; greedy needs none.
        parameter.data.mul_(3.0)
    model.generation_config.update(eos_token_id=END, pad_token_id=0)
    with quietly():
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    extra: dict[str, Any] = {"audio_token": "<sound>", "audio_bos_token": "<bos>"}
    extra["audio_eos_token"] = "<eos>"
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=SPECIALS,
        extra_special_tokens=extra,
        clean_up_tokenization_spaces=False,
    )


def _extractor() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)


def _audio_flamingo() -> tuple[Any, Any]:
    encoder = {**ENCODER, "hidden_size": 32, "intermediate_size": 64, "max_source_positions": 1500}
    config = AudioFlamingo3Config(
        audio_config={"model_type": "audioflamingo3_encoder", **encoder},
        text_config={"model_type": "qwen2", **TEXT},
        audio_token_id=AUDIO,
    )
    processor = AudioFlamingo3Processor(
        _extractor(), _tokenizer(), chat_template=TEMPLATE, audio_token="<sound>"
    )
    return AudioFlamingo3ForConditionalGeneration(config), processor


def _glm() -> tuple[Any, Any]:
    encoder = {**ENCODER, "hidden_size": 32, "intermediate_size": 128, "num_key_value_heads": 2}
    config = GlmAsrConfig(
        audio_config={"model_type": "glmasr_encoder", **encoder, "head_dim": 16},
        text_config={"model_type": "llama", **TEXT},
        audio_token_id=AUDIO,
    )
    processor = GlmAsrProcessor(
        _extractor(), _tokenizer(), chat_template=TEMPLATE, audio_token="<sound>"
    )
    return GlmAsrForConditionalGeneration(config), processor


def _qwen() -> tuple[Any, Any]:
    encoder = {
        "num_mel_bins": 128,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "d_model": 32,
        "output_dim": 32,
        "downsample_hidden_size": 8,
    }
    config = Qwen3ASRConfig(
        audio_config={"model_type": "qwen3_asr_encoder", **encoder},
        text_config={"model_type": "qwen3", **TEXT},
        audio_token_id=AUDIO,
        pad_token_id=0,
        eos_token_id=END,
    )
    processor = Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), _tokenizer(), chat_template=TEMPLATE)
    return Qwen3ASRForConditionalGeneration(config), processor
