"""Speaker classifiers that learn beside a model, and turn its emotion vector against themselves."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from components.adversary.buffered_adamw import BufferedAdamW
from components.adversary.gradient_reversal import GradientReversal
from components.adversary.lambda_schedules import LambdaSchedule
from components.adversary.monitor import SpeakerMonitor
from components.adversary.recent_rows import RecentRows
from components.adversary.speaker_classifier import SpeakerClassifier, SpeakerScore
from core.contracts import UNMAPPED, LossSum, MetricSum
from core.errors import ConfigError
from core.registry import register


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Rows of a micro-batch, for the classifiers to learn from once the step is taken."""

    emotion: Tensor
    speakers: Tensor
    predictions: Tensor
    hits: Tensor


@register("adversary", "ensemble")
class SpeakerAdversary(nn.Module):
    """Several speaker classifiers behind one gradient reversal.

    A single classifier that learns at the model's pace is deceived rather than satisfied: its
    accuracy falls to chance while a fresh one still finds the speaker (Elazar and Goldberg 2018).
    So the classifiers here learn more, and forget in turn what they were deceived about:

    * In the model's step they are frozen. The cross-entropy, averaged over them, gives the emotion
      vector a reversed gradient and the classifiers none. Dropout is off.
    * After each optimiser step they take ``steps`` steps of their own on the rows of all its
      micro-batches and ranks, detached, and on the last ``memory`` rows before these. A batch of
      sixteen rows tells little of hundreds of speakers; vectors of a few steps ago, from nearly the
      same encoder, tell more. Their AdamW is part of this module; the loop's optimiser, gradient
      norm and clipping do not see them.
    * Every ``reinit_every`` steps one of them, in turn, starts anew, its moments included.

    Two more settings keep the encoder from deceiving them cheaply. ``noise`` is added to whatever
    they get, anew each time: a classifier that tells speakers apart in spite of it is deceived by
    nothing smaller than it (instance noise; Sønderby et al. 2017, arXiv 1610.04490, for the
    discriminator of a GAN). ``stop_at_chance`` ends the reversal for a row once a classifier does
    no better than a guess on it. What is beyond hides nothing more, and a gradient without an end
    destroys what the vector is for.

    For the first ``pretrain_steps`` the factor is 0 and :attr:`pretraining` is true: the
    classifiers learn what there is to be found. A task keeps its model frozen meanwhile by counting
    no target. The accuracy at the end of it is the baseline that ``speaker_baseline`` reports.

    Everything is a function of weights, buffers and torch's random state, so that a resumed run
    goes on bit by bit.

    Args:
        classifier: the form of every member.
        schedule: factor of the reversal by step after pre-training.
        members: number of classifiers.
        steps: of each classifier for each optimiser step of the model.
        memory: mapped rows of former steps that the classifiers go on learning from.
        lr: of the classifiers, constant.
        weight_decay: of the classifiers' matrices.
        reinit_every: optimiser steps between re-initialisations of one member; None for never.
        noise: standard deviation of what is added to each element of their input in training.
        stop_at_chance: whether rows that a classifier guesses on give no reversed gradient.
        pretrain_steps: optimiser steps in which only the classifiers learn.
    """

    metric_names: ClassVar[tuple[str, ...]] = (
        "grl_lambda",
        "emotion_norm",
        "speaker_acc",
        "speaker_baseline",
        "speaker_chance",
        "speaker_coverage",
        "speaker_lift",
        "speaker_unique",
    )
    """Keys of what :meth:`metrics` returns, for a task's own ``metric_names``."""

    def __init__(
        self,
        *,
        classifier: SpeakerClassifier,
        schedule: LambdaSchedule,
        members: int = 3,
        steps: int = 3,
        memory: int = 0,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        reinit_every: int | None = None,
        noise: float = 0.0,
        stop_at_chance: bool = False,
        pretrain_steps: int = 0,
    ) -> None:
        super().__init__()
        _check(members=members, steps=steps, memory=memory, lr=lr, pretrain_steps=pretrain_steps)
        if not 0.0 <= noise < math.inf:
            raise ConfigError(f"adversary/ensemble: noise must be at least 0, but is {noise}")
        if reinit_every is not None and reinit_every < 1:
            raise ConfigError(
                f"adversary/ensemble: reinit_every must be at least 1, but is {reinit_every}; null "
                "never re-initialises"
            )
        self.steps = steps
        self.reinit_every = reinit_every
        self.noise = noise
        self.stop_at_chance = stop_at_chance
        self.pretrain_steps = pretrain_steps
        self.reversal = GradientReversal(schedule=schedule, delay=pretrain_steps)
        self.members = nn.ModuleList(copy.deepcopy(classifier) for _ in range(members))
        self.optimizers = nn.ModuleList(
            BufferedAdamW(lr=lr, weight_decay=weight_decay) for _ in range(members)
        )
        self.recent = RecentRows(size=memory) if memory else None
        self.monitor = SpeakerMonitor(members=members)
        self._seed = 0
        self._seen: list[_Seen] = []
        self._metrics: dict[str, MetricSum] = {}

    def setup(self, *, input_dim: int, num_speakers: int, seed: int) -> None:
        """Create classifiers and moments; called once, before weights are loaded.

        Args:
            input_dim: width of the emotion vector.
            num_speakers: of the mapping.
            seed: that all initial weights derive from.
        """
        self._seed = seed
        self.monitor.setup(num_speakers=num_speakers)
        if self.recent is not None:
            self.recent.setup(dim=input_dim)
        for number, (member, optimizer) in enumerate(self._pairs()):
            member.setup(input_dim=input_dim, num_speakers=num_speakers)
            member.reset(self._generator(0, number))
            member.requires_grad_(False)  # The loop's optimiser and DDP leave them alone.
            optimizer.setup(list(member.parameters()))

    @property
    def pretraining(self) -> bool:
        """Whether only the classifiers are to learn in the present step."""
        return int(self.reversal.step) < self.pretrain_steps

    @property
    def settled_from(self) -> int:
        """First step of a run after which the reversal has its full factor."""
        return self.pretrain_steps + self.reversal.schedule.settled_from

    @staticmethod
    def counts(speakers: Tensor) -> Tensor:
        """Return how many of (B,) speakers are mapped, as a float64 scalar."""
        return (speakers != UNMAPPED).sum().double()

    # ---------------------------------------------------------------------------- training

    def forward(self, emotion: Tensor, speakers: Tensor) -> LossSum:
        """Return the cross-entropy of a micro-batch, whose gradient into ``emotion`` is reversed.

        In training the rows are kept until :meth:`after_step`.

        Args:
            emotion: (B, D), any floating dtype.
            speakers: (B,) int64, ``UNMAPPED`` for rows that do not count.
        """
        reversed_ = self.reversal(emotion)
        if self.training:
            reversed_ = self._noisy(reversed_)
        scores = [
            member.score(reversed_, speakers, stop_at_chance=self.stop_at_chance)
            for member, _ in self._pairs()
        ]
        total = torch.stack([score.total for score in scores]).mean()
        hits = _mean_hits(scores)
        if self.training and torch.is_grad_enabled():
            self._seen.append(
                _Seen(
                    emotion=emotion.detach().float(),
                    speakers=speakers,
                    predictions=torch.stack([score.predictions for score in scores]),
                    hits=hits,
                )
            )
        self._metrics = self._observe(emotion.detach(), scores[0].count, hits)
        return LossSum(total=total, count=scores[0].count)

    def after_step(self, *, finite: bool) -> None:
        """Let the classifiers learn from the step's rows, and go on by one step.

        Collective: every rank calls it once for each optimiser step.

        Args:
            finite: whether the step was taken; nothing is learnt from one that was skipped.
        """
        seen, self._seen = self._seen, []
        if finite:
            self._learn(seen)
        self.reversal.advance()
        self._reinitialise(int(self.reversal.step))

    def metrics(self) -> dict[str, MetricSum]:
        """Return the metrics of the last micro-batch, and what is known from those before it.

        ``speaker_acc`` is the members' mean on rows they have not learnt from yet, under ``noise``,
        ``speaker_coverage`` the share of mapped rows; the rest is :class:`SpeakerMonitor`'s.
        """
        return self._metrics

    @torch.no_grad()
    def evaluate(self, emotion: Tensor, speakers: Tensor) -> dict[str, MetricSum]:
        """Return ``speaker_loss`` and ``speaker_acc`` of an evaluation batch."""
        scores = [member.score(emotion, speakers) for member, _ in self._pairs()]
        total = torch.stack([score.total for score in scores]).mean()
        count = scores[0].count
        return {
            "speaker_loss": MetricSum(total=total, count=count),
            "speaker_acc": MetricSum(total=_mean_hits(scores), count=count),
        }

    # ----------------------------------------------------------------------------- details

    def _pairs(self) -> list[tuple[SpeakerClassifier, BufferedAdamW]]:
        found: list[tuple[SpeakerClassifier, BufferedAdamW]] = []
        for member, optimizer in zip(self.members, self.optimizers, strict=True):
            assert isinstance(member, SpeakerClassifier)
            assert isinstance(optimizer, BufferedAdamW)
            found.append((member, optimizer))
        return found

    def _noisy(self, emotion: Tensor) -> Tensor:
        return emotion + self.noise * torch.randn_like(emotion) if self.noise else emotion

    def _observe(self, emotion: Tensor, count: Tensor, hits: Tensor) -> dict[str, MetricSum]:
        rows = float(len(emotion))
        norm = torch.linalg.vector_norm(emotion.float(), dim=1).sum()
        return {
            "grl_lambda": MetricSum(total=self.reversal.factor, count=1.0),
            "emotion_norm": MetricSum(total=norm, count=rows),
            "speaker_acc": MetricSum(total=hits, count=count),
            "speaker_coverage": MetricSum(total=count, count=rows),
            **self.monitor.metrics(),
        }

    def _learn(self, seen: Sequence[_Seen]) -> None:
        """Take the classifiers' own steps on the rows of all ranks."""
        weight = self._pairs()[0][0].input.weight
        emotion = torch.cat([weight.new_zeros(0, weight.shape[1]), *(s.emotion for s in seen)])
        nobody = torch.zeros(0, dtype=torch.int64, device=weight.device)
        speakers = torch.cat([nobody, *(s.speakers for s in seen)])
        predictions = torch.cat(
            [nobody.expand(len(self.members), 0), *(s.predictions for s in seen)], dim=1
        )
        hits = torch.stack([weight.new_zeros(()), *(s.hits for s in seen)]).sum()
        found = _over_ranks(torch.stack([hits, (speakers != UNMAPPED).sum().float()]))
        rows = int(found[1])
        if rows == 0:
            return
        self.monitor.update(
            predictions[:, speakers != UNMAPPED],
            hits=found[0],
            rows=rows,
            pretraining=self.pretraining,
        )
        learnt, classes, count = self._with_recent(emotion, speakers, rows)
        for _ in range(self.steps):
            for member, optimizer in self._pairs():
                parameters = list(member.parameters())
                gradients = _gradients(member, self._noisy(learnt), classes)
                optimizer.update(parameters, [gradient / count for gradient in gradients])
        if self.recent is not None:
            mapped = speakers != UNMAPPED
            self.recent.push(*_gathered(emotion[mapped], speakers[mapped]))

    def _with_recent(
        self, emotion: Tensor, speakers: Tensor, rows: int
    ) -> tuple[Tensor, Tensor, int]:
        """Add this rank's share of the remembered rows; count those of all ranks."""
        if self.recent is None:
            return emotion, speakers, rows
        vectors, classes = self.recent.rows()
        first, step = _rank_and_ranks()
        return (
            torch.cat([emotion, vectors[first::step]]),
            torch.cat([speakers, classes[first::step]]),
            rows + len(classes),
        )

    def _reinitialise(self, step: int) -> None:
        if self.reinit_every is None or step <= self.pretrain_steps or step % self.reinit_every:
            return
        number = (step // self.reinit_every - 1) % len(self.members)
        member, optimizer = self._pairs()[number]
        member.reset(self._generator(step, number))
        optimizer.reset()

    def _generator(self, step: int, number: int) -> torch.Generator:
        key = f"speaker adversary {self._seed}:{step}:{number}"
        return torch.Generator().manual_seed(zlib.crc32(key.encode()))


def _gradients(member: SpeakerClassifier, emotion: Tensor, speakers: Tensor) -> list[Tensor]:
    """Return the gradients of the cross-entropy, summed over rows and ranks."""
    parameters = list(member.parameters())
    member.requires_grad_(True)
    with torch.enable_grad():
        total = member.score(emotion, speakers, learning=True).total
        gradients = torch.autograd.grad(total, parameters)
    member.requires_grad_(False)
    flat = _over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([parameter.numel() for parameter in parameters])
    return [part.view_as(value) for part, value in zip(parts, parameters, strict=True)]


def _gathered(vectors: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of all ranks, in their order, the same on each."""
    _, ranks = _rank_and_ranks()
    if ranks == 1:
        return vectors, classes
    sizes = [torch.zeros((), dtype=torch.int64, device=classes.device) for _ in range(ranks)]
    dist.all_gather(sizes, torch.tensor(len(classes), device=classes.device))
    most = int(torch.stack(sizes).max())
    padding = most - len(classes)
    found: list[Tensor] = []
    for values in (F.pad(vectors, (0, 0, 0, padding)), F.pad(classes, (0, padding))):
        parts = [torch.empty_like(values) for _ in range(ranks)]
        dist.all_gather(parts, values.contiguous())
        found.append(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))
    return found[0], found[1]


def _rank_and_ranks() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def _mean_hits(scores: Sequence[SpeakerScore]) -> Tensor:
    return torch.stack([score.hits.float() for score in scores]).mean()


def _check(*, members: int, steps: int, memory: int, lr: float, pretrain_steps: int) -> None:
    for name, value, least in (
        ("members", members, 1),
        ("steps", steps, 1),
        ("memory", memory, 0),
        ("pretrain_steps", pretrain_steps, 0),
    ):
        if value < least:
            raise ConfigError(
                f"adversary/ensemble: {name} must be at least {least}, but is {value}"
            )
    if not lr > 0.0:
        raise ConfigError(f"adversary/ensemble: lr must be positive, but is {lr}")
