from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from components.probes.emotion import EmotionProbes
from core.contracts import UNMAPPED, MetricSum, Padded, ProbeFindings, SpeechPairBatch
from core.errors import DataError

DIM = 12


class Planted:
    """A model whose vector is the mel's first frame, the speaker's part of it scaled."""

    def __init__(self, leak: float) -> None:
        self.leak = leak

    def emotion(self, batch: SpeechPairBatch) -> Tensor:
        assert batch.mel is not None
        vector = batch.mel.values[:, 0].clone()
        vector[:, :6] *= self.leak
        return vector

    def evaluate(self, batch: SpeechPairBatch) -> dict[str, MetricSum]:
        rows = float(len(batch))
        return {
            "loss": MetricSum(total=2.0 * rows, count=rows),
            "other": MetricSum(total=1, count=1),
        }


def batch(
    speakers: list[int], *, first: int = 0, mapped: bool = True, labels: bool = True
) -> SpeechPairBatch:
    rows = len(speakers)
    generator = torch.Generator().manual_seed(first)
    mel = 0.2 * torch.randn(rows, 4, DIM, generator=generator)
    for row, speaker in enumerate(speakers):
        mel[row, 0, speaker % 6] += 3.0
        mel[row, 0, 6 + row % 3] += 3.0
    return SpeechPairBatch(
        ids=tuple(f"T{first + row}__P" for row in range(rows)),
        text=Padded(values=torch.ones(rows, 2).long(), lengths=torch.full((rows,), 2)),
        codes=Padded(values=torch.ones(rows, 3).long(), lengths=torch.full((rows,), 3)),
        condition=torch.zeros(rows, 1, 2),
        mel=Padded(values=mel, lengths=torch.full((rows,), 4)),
        emotion=None,
        speakers=torch.tensor([s if mapped else UNMAPPED for s in speakers]),
        speaker_names=tuple(f"S{s}" for s in speakers),
        sides=("target",) * rows,
        utterances=tuple(f"T{first + row}" for row in range(rows)),
        emotions=tuple(f"style {row % 3}" if labels else "" for row in range(rows)),
        audio=("",) * rows,
    )


def findings(suite: EmotionProbes, *names: str) -> ProbeFindings:
    return suite.findings(names=names or ("run",), seeds=(0, 1, 2))


def notes(found: ProbeFindings) -> str:
    return "\n".join(found.figures["notes"])


def test_rows_of_one_utterance_count_once() -> None:
    once, twice = (EmotionProbes([Planted(1.0)], mapped=True) for _ in range(2))
    given = batch([n % 4 for n in range(60)])
    once.add(given)
    for _ in range(2):
        twice.add(given)
    left, right = findings(once), findings(twice)
    assert left.figures["utterances"] == right.figures["utterances"] == 60
    assert left.figures["run"]["classes"] == right.figures["run"]["classes"]
    assert "60 rows repeat one" in notes(right)
    # The same id of another speaker is another utterance.
    twice.add(replace(given, speaker_names=tuple(f"X{n % 4}" for n in range(60))))
    assert findings(twice).figures["utterances"] == 120


def test_a_twin_is_measured_on_the_same_rows() -> None:
    suite = EmotionProbes([Planted(0.0), Planted(1.0)], mapped=True)
    for start in range(0, 120, 24):
        suite.add(batch([n % 4 for n in range(24)], first=start))
    found = findings(suite, "after", "before")
    assert found.figures["twin"]["classes"]["speaker"][0]["accuracy"] > 0.95
    assert found.figures["run"]["classes"]["speaker"][0]["accuracy"] < 0.6
    assert found.figures["comparison"]["speaker_linear"]["removed"] > 0.6
    assert found.figures["comparison"]["emotion_linear"]["points"] == pytest.approx(0, abs=5)
    assert found.figures["comparison"]["loss"]["percent"] == 0.0
    assert found.metrics["probe/loss"] == 2.0
    assert "other" not in found.figures["run"]["extra"]
    assert "after beside before" in found.lines


def test_strangers_are_verified_and_not_classified() -> None:
    suite = EmotionProbes([Planted(1.0)], mapped=True)
    suite.add(batch([n % 4 for n in range(60)]))
    suite.add(batch([4 + n % 2 for n in range(10)], first=100, mapped=False))
    found = findings(suite).figures["run"]
    assert found["classes"]["speaker"][0]["classes"] == 4
    assert found["verification"]["speakers"] == 2
    assert found["verification"]["eer"] < 0.2
    assert found["extra"] == {"loss": 2.0, "loss_unseen": 2.0}


def test_without_a_mapping_nobody_is_a_stranger() -> None:
    suite = EmotionProbes([Planted(1.0)], mapped=False)
    suite.add(batch([n % 4 for n in range(60)], mapped=False))
    found = findings(suite).figures["run"]
    assert found["classes"]["speaker"][0]["classes"] == 4
    assert found["verification"] is None


def test_rare_speakers_are_left_out_and_counted() -> None:
    suite = EmotionProbes([Planted(1.0)], mapped=True)
    suite.add(batch([n % 4 for n in range(60)]))
    suite.add(batch([4, 4, 4, 4, 5], first=100))
    found = findings(suite)
    assert found.figures["run"]["classes"]["speaker"][0]["classes"] == 4
    assert "speaker: left out, having fewer than 5 utterances: 2 classes of 5 utterances" in notes(
        found
    )


def test_what_cannot_be_probed_is_said() -> None:
    suite = EmotionProbes([Planted(1.0)], mapped=True)
    suite.add(batch([0] * 40, mapped=False, labels=False))
    found = findings(suite)
    assert found.figures["run"]["classes"] == {}
    for line in (
        "speaker: no probe: the mapping has none of these speakers",
        "emotion: no probe: no row has a label",
        "open set: no verification",
        "prosody: pitch is known of 0 utterances only: left out",
    ):
        assert line in notes(found)
    few = EmotionProbes([Planted(1.0)], mapped=True)
    few.add(batch([0, 1, 2]))
    with pytest.raises(DataError, match="at least 20 different utterances, and there are 3"):
        findings(few)
