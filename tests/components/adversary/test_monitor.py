from __future__ import annotations

import torch

from components.adversary.monitor import EXPECTED_HITS, RECENT, SpeakerMonitor


def update(monitor: SpeakerMonitor, predictions: torch.Tensor, hits: float) -> None:
    rows = predictions.shape[1]
    monitor.update(predictions, hits=torch.tensor(hits), rows=rows, pretraining=False)


def known(monitor: SpeakerMonitor) -> dict[str, float]:
    found = monitor.metrics()
    return {n: float(m.total) / float(m.count) for n, m in found.items() if float(m.count)}


def monitor() -> SpeakerMonitor:
    made = SpeakerMonitor(members=2)
    made.setup(num_speakers=10)
    return made


def test_unique_predictions_are_those_of_the_least_varied_member() -> None:
    made = monitor()
    varied = torch.arange(RECENT) % 10
    constant = torch.full((RECENT,), 7)
    update(made, torch.stack([varied, constant])[:, : RECENT - 1], hits=0.0)
    assert "speaker_unique" not in known(made), "one row is missing"
    update(made, torch.stack([varied, constant])[:, -1:], hits=0.0)
    assert known(made)["speaker_unique"] == 1.0
    for start in range(0, RECENT, 100):  # Old rows are overwritten, also around the end.
        update(made, torch.stack([varied, varied % 3])[:, start : start + 100], hits=0.0)
    assert known(made)["speaker_unique"] == 3.0


def test_a_step_longer_than_the_memory_is_taken_in() -> None:
    made = monitor()
    long = (torch.arange(3 * RECENT) // RECENT).expand(2, -1)
    update(made, long, hits=0.0)
    assert torch.equal(made.recent, torch.full((2, RECENT), 2))
    assert known(made)["speaker_unique"] == 1.0


def test_lift_is_told_once_a_block_is_complete() -> None:
    made, step = monitor(), torch.zeros(2, 100, dtype=torch.int64)
    for _ in range(EXPECTED_HITS * 10 // 100 - 1):
        update(made, step, hits=20.0)
    assert "speaker_lift" not in known(made)
    update(made, step, hits=20.0)
    assert known(made)["speaker_lift"] == 2.0
    update(made, step, hits=0.0)
    assert known(made)["speaker_lift"] == 2.0, "the next block is not complete"
