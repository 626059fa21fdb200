from __future__ import annotations

from core.config.flatten import fingerprint
from core.train.directory import run_digest
from experiments.stage1_ctc import experiment


def test_the_name_of_a_run_tells_what_it_starts_from() -> None:
    config = experiment()
    assert run_digest(config, None) == fingerprint(config)
    digests = {run_digest(config, start) for start in (None, "runs/a", "runs/b", "nemo:m.nemo")}
    assert len(digests) == 4
    assert run_digest(config, "runs/a") == run_digest(experiment(), "runs/a")
    assert run_digest(experiment(seed=1), "runs/a") != run_digest(config, "runs/a")
