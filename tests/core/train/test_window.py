from __future__ import annotations

import json

from core.train.window import Window


def test_averages_weigh_counts_and_survive_json() -> None:
    window = Window()
    window.add("loss", 6.0, 3.0)
    window.add("loss", 2.0, 1.0)
    window.add("never", 0.0, 0.0)
    restored = Window()
    restored.load_state_dict(json.loads(json.dumps(window.state_dict())))
    for held in (window, restored):
        assert held.averages() == {"loss": 2.0}
    window.reset()
    assert window.averages() == {}
