from __future__ import annotations

import fiddle as fdl

from components.adversary.ensemble import SpeakerAdversary
from components.adversary.limits import adversary_limits


def test_limits_name_metrics_of_the_adversary_and_draw_the_line_where_asked() -> None:
    limits = {limit.name: limit for limit in map(fdl.build, adversary_limits(loss="train/loss"))}
    known = {f"train/{name}" for name in SpeakerAdversary.metric_names}
    for name, limit in limits.items():
        assert set(limit.metrics) <= known | {"train/loss", "val/emotion_use"}, name
    assert limits["speakers_unmapped"].crossed(0.0)
    assert not limits["speakers_unmapped"].crossed(1e-4)
    assert limits["classifier_constant"].crossed(1.0)
    assert not limits["classifier_constant"].crossed(2.0)
    assert limits["emotion_norm"].crossed(3.1)
    assert limits["main_loss"].crossed(1.06)
    assert limits["anti_learning"].crossed(0.4)
    assert limits["emotion_unused"].crossed(0.0)
    assert not limits["emotion_unused"].crossed(0.05)
