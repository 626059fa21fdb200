"""The base model of the adapter's demo: a tiny Voxtral that has learnt how adults speak.

It is made once, offline, in about two minutes of one core, and kept in the cache. All its 368,448
weights are trained on the sentences of ``clinic:``, spoken by adults alone, so that it transcribes
adults that it has not heard and fails on children, which is what the demo then adapts it to. It
recognises 32 sentences and is of no other use.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.datasets.clinic import ClinicSource
from components.datasets.demo_progress import progress
from components.datasets.made_once import made_once
from components.features.whisper import CHUNK_FRAMES, HOP, NUM_BINS, SAMPLE_RATE
from components.metrics.error_rate import ErrorCounts, characters, count_errors
from components.speech_llm.base import find_base
from components.speech_llm.missing import missing_files
from components.speech_llm.packages import require
from components.speech_llm.prompt import Prompt, prompt_for
from components.speech_llm.sampled_silence import SampledSilence
from components.speech_llm.tiny import TOKENIZER, write_tiny
from core.data.cache import default_cache

LANGUAGE = "ko"

_VERSION = 5
_STEPS = 1000
_BATCH = 16
_RATE = 3e-3
_WARM_UP = 0.1
_HEARD = SampledSilence(heard=32, drawn=8)  # 2.56 s; the longest sentence of an adult takes 2.3 s.


def ensure_demo_base(cache: Path | None = None, *, steps: int = _STEPS) -> Path:
    """Return the folder of the model, and make it first if it is not there or is damaged.

    Args:
        cache: where it is kept; None for the user's cache folder.
        steps: of training; fewer make another model, in a folder of its own.

    Raises:
        DataError: eSpeak NG is not installed or fails, or the cache cannot be written.
        ConfigError: a package is missing.
    """
    require("transformers", "mistral_common")
    kept = cache or default_cache()
    train, test = _corpus("train", 960), _corpus("test", 96)
    for source in (train, test):
        source.open(kept)
    told = f"{_VERSION}/{steps}/{train.fingerprint}/{test.fingerprint}"
    name = f"speech-llm-adults-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    return made_once(
        kept / name,
        damage=_damage,
        make=lambda folder: _make(folder, train=train, test=test, steps=steps),
    )


def _corpus(split: str, utterances: int) -> ClinicSource:
    return ClinicSource(location=split, speakers="adults", utterances=utterances)


def _damage(folder: Path) -> str | None:
    absent = missing_files(folder, (TOKENIZER,))
    return f"{', '.join(absent)} missing" if absent else None


def _make(folder: Path, *, train: ClinicSource, test: ClinicSource, steps: int) -> None:
    from transformers import VoxtralForConditionalGeneration

    write_tiny(folder)
    model = VoxtralForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    with _one_thread():
        features, texts = _features(train, frames=_HEARD.frames), list(train.texts())
        _train(model, features, texts, folder=folder, steps=steps)
        rate = _character_error_rate(model, test, folder=folder)
    model.save_pretrained(folder)
    print(
        f"demo: the base makes {rate:.1%} character errors on adults that it has not heard; it is "
        f"kept in {folder.parent}",
        file=sys.stderr,
        flush=True,
    )


def _train(model: Any, features: Tensor, texts: list[str], *, folder: Path, steps: int) -> None:  # noqa: ANN401
    """Train all weights but the encoder's positions, which are Whisper's sinusoids.

    What the published model had no need of brings a small one to listen in minutes: silence, of
    which a chunk holds fourteen times as much as of speech, comes to count late.
    """
    prompt = _prompt(folder)
    answers = [prompt.answer(text) for text in texts]
    request = prompt.request(rows=_HEARD.rows, chunks=1, language=LANGUAGE)
    positions = model.model.audio_tower.embed_positions.weight
    positions.data.copy_(sinusoids(*positions.shape))
    generator = torch.Generator().manual_seed(0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=_RATE, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _RATE, total_steps=max(steps, 20), pct_start=_WARM_UP
    )
    model.train()
    title = "demo: teaching the tiny base model how adults speak"
    for step in progress(range(steps), total=steps, title=title):
        rows = torch.randint(len(texts), (_BATCH,), generator=generator)
        loss = _HEARD.loss(
            model,
            features[rows],
            [answers[row] for row in rows.tolist()],
            request,
            generator=generator,
            weight=silence_counts(step / steps),
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
    model.eval()


def silence_counts(done: float) -> float:
    """Return which share of a chunk's silence counts after a share of the training.

    A thousandth, about a third of a row, until 60 % of the steps; all of it from 75 % on.
    """
    return float(min(1.0, 1e-3 ** (1.0 - max(0.0, done - 0.6) / 0.15)))


@torch.no_grad()
def _character_error_rate(model: Any, test: ClinicSource, *, folder: Path) -> float:  # noqa: ANN401
    """Return the rate on whole chunks, transcribed as a user does."""
    prompt = _prompt(folder)
    request = torch.tensor([prompt.request(rows=_HEARD.rows, chunks=1, language=LANGUAGE)])
    features, errors = _features(test, frames=CHUNK_FRAMES), ErrorCounts()
    texts = list(test.texts())
    for start in range(0, len(texts), _BATCH):
        part = features[start : start + _BATCH]
        ids = request.expand(len(part), -1)
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=part,
            max_new_tokens=48,
            do_sample=False,
            pad_token_id=prompt.pad_token,
        )
        for row, text in zip(made[:, ids.shape[1] :].tolist(), texts[start:], strict=False):
            errors += count_errors(characters(text), characters(prompt.read(row)))
    return errors.rate


def _prompt(folder: Path) -> Prompt:
    _, family = find_base(str(folder))
    return prompt_for(folder, family)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on more, sums are ordered otherwise and the weights differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def sinusoids(length: int, width: int) -> Tensor:
    """Return (length, width) of Whisper's positions: sines, then cosines, of falling frequency."""
    rates = torch.exp(torch.arange(width // 2) * (-torch.log(torch.tensor(1e4)) / (width // 2 - 1)))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _features(source: ClinicSource, *, frames: int) -> Tensor:
    """Return (N, 128, frames) features of all utterances, float32.

    Of the 30 s that a chunk is padded to, only so much is computed; it is the same.
    """
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=NUM_BINS)
    audio = [source.cut(row).load_audio()[0] for row in range(len(source))]
    made = [
        extractor(
            samples,
            sampling_rate=SAMPLE_RATE,
            padding="max_length",
            max_length=frames * HOP,
            truncation=False,
            return_tensors="pt",
        )["input_features"][0]
        for samples in audio
    ]
    return torch.stack(made)
