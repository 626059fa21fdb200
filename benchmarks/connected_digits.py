"""Connected digit strings from recordings of single digits, as NeMo manifests.

    python benchmarks/connected_digits.py --source RECORDINGS --out DIR

``RECORDINGS`` holds WAV files named ``{digit}_{speaker}_{take}.wav``, as the Free Spoken Digit
Dataset does (Jackson et al., CC BY-SA 4.0). Takes below ``--validation-takes`` make the validation
strings and the others the training strings, so no recording is heard in both. The manifests go
straight into ``experiments/stage1_ctc.py``; the command is printed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Takes = dict[str, dict[int, list[Path]]]


def find_takes(source: Path, *, validation_takes: int) -> tuple[Takes, Takes]:
    """Return (training, validation) recordings by speaker and digit."""
    training: Takes = defaultdict(lambda: defaultdict(list))
    validation: Takes = defaultdict(lambda: defaultdict(list))
    for path in sorted(source.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        side = validation if int(take) < validation_takes else training
        side[speaker][int(digit)].append(path)
    if not training or not validation:
        raise SystemExit(f"{source}: no files named digit_speaker_take.wav on both sides")
    return training, validation


def speak(
    takes: dict[int, list[Path]], digits: list[int], rng: random.Random
) -> tuple[np.ndarray, int]:
    """Join one random take of each digit with 50 to 150 ms of silence between them."""
    pieces: list[np.ndarray] = []
    rate = 0
    for digit in digits:
        samples, rate = soundfile.read(rng.choice(takes[digit]), dtype="float32")
        pieces += [samples, np.zeros(int(rng.uniform(0.05, 0.15) * rate), np.float32)]
    return np.concatenate(pieces), rate


def write_split(
    out: Path, name: str, takes: Takes, *, strings: int, digits: int, seed: int
) -> Path:
    """Write ``strings`` utterances of two to six digits and their manifest."""
    rng = random.Random(f"{name}-{seed}")
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    manifest = out / f"{name}.json"
    with manifest.open("w", encoding="utf-8") as rows:
        for number in range(strings):
            speaker = rng.choice(sorted(takes))
            spoken = [rng.randrange(digits) for _ in range(rng.randint(2, 6))]
            samples, rate = speak(takes[speaker], spoken, rng)
            path = folder / f"{number:05d}-{speaker}.wav"
            soundfile.write(path, samples, rate)
            row = {
                "audio_filepath": str(path.relative_to(out)),
                "duration": len(samples) / rate,
                "text": " ".join(WORDS[digit] for digit in spoken),
                "speaker": speaker,
            }
            rows.write(json.dumps(row) + "\n")
    return manifest


def main() -> None:
    """Build both splits and print how to train on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strings", type=int, default=2400)
    parser.add_argument("--validation-strings", type=int, default=150)
    parser.add_argument("--validation-takes", type=int, default=10)
    parser.add_argument("--digits", type=int, default=10, help="use the digits below this one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training, validation = find_takes(options.source, validation_takes=options.validation_takes)
    common = {"digits": options.digits, "seed": options.seed}
    train = write_split(options.out, "train", training, strings=options.strings, **common)
    held_out = write_split(
        options.out, "validation", validation, strings=options.validation_strings, **common
    )
    print(
        "python -m core.run experiments/stage1_ctc.py name=digits "
        f"train=nemo:{train} validation=nemo:{held_out}"
    )


if __name__ == "__main__":
    main()
