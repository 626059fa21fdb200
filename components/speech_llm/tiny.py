"""A Voxtral of 368,448 parameters with random weights, made offline in seconds.

It has everything that the published model has, at a size that two CPU cores train: 128 mel bins,
chunks of 30 s, 375 rows a chunk, the transcription prompt, a tokenizer file of 17 KB. Its tokenizer
knows the 256 bytes and no merges, so every text can be written and read.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import torch

from components.speech_llm.packages import quietly, require

BYTES = 256
SPECIALS = 64
AUDIO_TOKEN = 24
PAD_TOKEN = 11
TOKENIZER = "tekken.json"

_NAMED = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    PAD_TOKEN: "<pad>",
    AUDIO_TOKEN: "[AUDIO]",
    25: "[BEGIN_AUDIO]",
    34: "[TRANSCRIBE]",
}
_REQUIRED = {
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
}
"""What the instruct tokenizer asks for although no transcription uses it."""


def write_tiny(folder: Path, *, hidden: int = 64, layers: int = 2, seed: int = 0) -> Path:
    """Write a folder that transformers loads as a Voxtral; return it.

    Args:
        folder: made where it does not exist; files in it of the same names are replaced.
        hidden: width of the encoder and of the language model, a multiple of 16.
        layers: of each of the two.
        seed: of the weights.
    """
    from transformers import VoxtralForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / TOKENIZER)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VoxtralForConditionalGeneration(tiny_config(hidden=hidden, layers=layers))
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=PAD_TOKEN)
    with quietly():
        model.save_pretrained(folder)
    _processor(folder / TOKENIZER).save_pretrained(folder)
    return folder


def tiny_config(*, hidden: int = 64, layers: int = 2) -> Any:  # noqa: ANN401
    """Return the ``VoxtralConfig`` of the tiny model."""
    from transformers import VoxtralConfig

    heads = max(hidden // 16, 2)
    audio = {
        "model_type": "voxtral_encoder",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,  # Also the width of four frames side by side.
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_mel_bins": 128,
        "max_source_positions": 1500,
    }
    text = {
        "model_type": "llama",
        "vocab_size": BYTES + SPECIALS,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(heads // 2, 1),
        "head_dim": 16,
        "max_position_embeddings": 8192,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": PAD_TOKEN,
    }
    return VoxtralConfig(audio_token_id=AUDIO_TOKEN, audio_config=audio, text_config=text)


def write_tokenizer(file: Path) -> Path:
    """Write a tekken file of 256 bytes and 64 special tokens; its name must hold 'tekken'."""
    named = {**_REQUIRED, **_NAMED}
    content = {
        "config": {
            "pattern": r"\s+|\S+",
            "num_vocab_tokens": BYTES,
            "default_vocab_size": BYTES + SPECIALS,
            "default_num_special_tokens": SPECIALS,
            "version": "v7",
        },
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode(), "token_str": None}
            for i in range(BYTES)
        ],
        "special_tokens": [
            {"rank": i, "token_str": named.get(i, f"<SPECIAL_{i}>"), "is_control": True}
            for i in range(SPECIALS)
        ],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "chunk_length_s": 30.0,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
        "version": 1,
        "type": "Tekken",
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def _processor(tokenizer: Path) -> Any:  # noqa: ANN401
    require("mistral_common")
    from transformers import VoxtralProcessor, WhisperFeatureExtractor
    from transformers.tokenization_mistral_common import MistralCommonBackend

    return VoxtralProcessor(
        WhisperFeatureExtractor(feature_size=128),
        MistralCommonBackend(tokenizer_path=str(tokenizer)),
    )
