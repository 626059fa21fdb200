from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from components.visuals.posteriors import _rows, posterior_image


def peaks(frames: int, vocab: int, where: dict[int, tuple[int, float]]) -> np.ndarray:
    probabilities = np.full((frames, vocab), 1e-4)
    for token, (frame, probability) in where.items():
        probabilities[frame, token] = probability
    probabilities[:, 0] = 1.0 - probabilities[:, 1:].sum(axis=1)
    return np.log(probabilities)


def test_rows_are_the_blank_and_then_tokens_by_appearance() -> None:
    log_probs = peaks(20, 6, {1: (15, 0.9), 2: (3, 0.9), 4: (9, 0.3), 5: (1, 0.01)})
    assert _rows(log_probs) == [0, 2, 4, 1]


def test_of_many_tokens_the_strongest_are_shown() -> None:
    where = {token: (token, 0.5 + 0.001 * token) for token in range(1, 100)}
    assert _rows(peaks(120, 200, where)) == [0, *range(73, 100)]


def test_a_peak_is_dark_at_its_time() -> None:
    log_probs = peaks(10, 3, {1: (2, 0.99), 2: (7, 0.99)})
    pixels = posterior_image(log_probs, ["<blank>", "a", " "], seconds_per_frame=0.04)
    blue_on_white = 255 - pixels[60, 100:780, 0].astype(int)  # The row of the last token.
    assert 0.6 < (np.flatnonzero(blue_on_white > 150).mean() / 680) < 0.85


@pytest.mark.filterwarnings("error")
def test_no_frames_still_give_a_picture() -> None:
    assert posterior_image(np.zeros((0, 3)), ["-", "a", "b"], seconds_per_frame=0.04).shape == (
        400,
        900,
        3,
    )
