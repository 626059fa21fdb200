"""Aim as a window on a run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from components.trackers.aim_repo import (
    import_aim,
    index_run,
    known_repo,
    open_repo,
    open_run,
)
from components.trackers.nested import nested
from core.contracts import Artifact, RunInfo
from core.registry import register

MEMORY = "aim_run.json"
"""File in the run directory that says which Aim run is its own."""


@register("tracker", "aim")
class AimTracker:
    """Shows a run in Aim: metrics by split, the configuration, texts, audio and images.

    ``train/loss`` becomes the metric ``loss`` in the context ``{"subset": "train"}``; the artifact
    ``alignment/utt-17`` becomes ``alignment`` in ``{"utterance": "utt-17"}``. The hash of the Aim
    run is kept in ``aim_run.json`` of the run directory, so that a resumed run goes on in the same
    Aim run; points of steps that are taken again replace the old ones. With the default ``repo``
    it does so wherever the command is typed, as long as that repository is there.

    The caller must be the only writer of the run directory. Needs the extra ``sori[aim]``.

    Args:
        repo: folder that holds (or gets) the ``.aim`` repository, where ``aim up`` is typed.
        experiment: under which Aim groups the run; None for the name of the experiment.
    """

    def __init__(self, *, repo: Path | str = ".", experiment: str | None = None) -> None:
        self.repo = repo
        self.experiment = experiment
        self._run: Any = None

    def start(self, run: RunInfo) -> None:
        """Open the repository, making it on first use, and the run in it.

        Raises:
            ModuleNotFoundError: Aim is not installed; the message names the extra.
        """
        aim = import_aim()
        memory = run.directory / MEMORY
        known = known_repo(memory) if str(self.repo) == "." else None
        repo = open_repo(aim, known or Path(self.repo).expanduser().resolve())
        self._run = open_run(aim, repo, memory)
        self._run.name = run.directory.resolve().name
        self._run.experiment = self.experiment or run.name
        self._run["directory"] = str(run.directory.resolve())
        self._run["status"] = "running"
        if run.hparams:
            self._run["hparams"] = nested(run.hparams)
        if run.environment:
            self._run["environment"] = nested(run.environment)
        index_run(repo, self._run.hash)

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Track scalars."""
        run = self._started()
        for label, value in values.items():
            name, context = _split(label, "subset", last=True)
            run.track(float(value), name=name, step=step, epoch=epoch, context=context)

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        """Track texts, audio and images."""
        run = self._started()
        aim = import_aim()
        for artifact in artifacts:
            name, context = _split(artifact.name, "utterance", last=False)
            run.track(_object(aim, artifact), name=name, step=step, context=context)

    def finish(self, status: str) -> None:
        """Close the run and enter it into the repository's index."""
        if self._run is None:
            return
        run, self._run = self._run, None
        run["status"] = status
        run.close()
        index_run(run.repo, run.hash)

    def _started(self) -> Any:  # noqa: ANN401
        if self._run is None:
            raise RuntimeError("AimTracker.start was not called, or failed")
        return self._run


def _split(label: str, key: str, *, last: bool) -> tuple[str, dict[str, str]]:
    """Split ``a/b`` into a name and a context; ``last`` says that the name comes last."""
    first, slash, rest = label.partition("/")
    if not slash:
        return label, {}
    return (rest, {key: first}) if last else (first, {key: rest})


def _object(aim: Any, artifact: Artifact) -> Any:  # noqa: ANN401
    """Return Aim's form of an artifact."""
    if artifact.kind == "text":
        text = str(artifact.value)
        return aim.Text(text if artifact.caption in text else f"{artifact.caption}\n{text}")
    value = np.asarray(artifact.value)
    if artifact.kind == "image":
        return aim.Image(value, caption=artifact.caption)
    file = io.BytesIO()
    soundfile.write(file, value, artifact.sample_rate, format="WAV", subtype="PCM_16")
    return aim.Audio(file.getvalue(), format="wav", caption=artifact.caption)
