"""eSpeak forks for each utterance, so it is run in processes of its own, as in production."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("espeakng_loader")

from components.datasets.espeak import check_voice, variants
from core.errors import DataError

ROOT = Path(__file__).parents[3]
SPEAK = """
import hashlib, json, sys
from components.datasets.espeak import Espeak, Utterance
from core.errors import DataError
espeak, results = Espeak(), []
for request in json.loads(sys.argv[1]):
    try:
        samples = espeak.speak(Utterance(**request))
        results.append([len(samples), hashlib.md5(samples.tobytes()).hexdigest()])
    except DataError as error:
        results.append(str(error))
print(json.dumps([espeak.sample_rate, results, "torch" in sys.modules]))
"""


def speak(requests: list[dict[str, Any]]) -> tuple[int, list[Any], bool]:
    done = subprocess.run(
        [sys.executable, "-c", SPEAK, json.dumps(requests)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    rate, results, torch = json.loads(done.stdout)
    return rate, results, torch


def test_breathy_and_plain_voices_repeat_in_any_order_and_process() -> None:
    requests = [
        {"text": text, "voice": voice}
        for voice, text in (
            ("en-us+f2", "open the door"),
            ("en-gb-x-rp+sandro", "open the door"),
            ("en-gb-scotland+m1", "open the door"),
            ("ko+f5", "창문을 열어 주세요"),
        )
    ]
    rate, first, torch = speak([*requests, *requests])
    assert rate == 22050
    assert first[:4] == first[4:]
    assert speak(requests[::-1])[1] == first[3::-1]
    assert not torch, "the process that forks must not have torch"


def test_rate_pitch_voice_and_seed_are_heard() -> None:
    base = {"text": "seven blue flowers", "voice": "en-us+f2", "rate": 150, "pitch": 50, "seed": 1}
    changes = [{}, {"rate": 120}, {"pitch": 70}, {"voice": "en-us+m3"}, {"seed": 2}]
    _, results, _ = speak([{**base, **change} for change in changes])
    assert len({digest for _, digest in results}) == len(changes)
    assert results[1][0] > 1.1 * results[0][0], "slower speech is longer"


def test_an_unknown_variant_or_language_is_refused() -> None:
    with pytest.raises(DataError, match=r"no variant 'Micheal'; did you mean .*'Michael'"):
        check_voice("en-us+Micheal")
    _, results, _ = speak(
        [{"text": "a", "voice": "en-us+nobody"}, {"text": "a", "voice": "xx-unknown+m1"}]
    )
    assert "no variant 'nobody'" in results[0]
    assert "'xx-unknown+m1'" in results[1]
    assert "SetVoiceByName" in results[1]


def test_the_wheel_has_the_variants_that_the_specification_counted() -> None:
    assert len(variants()) >= 100
    assert {"m1", "f1", "Michael"} <= set(variants())
