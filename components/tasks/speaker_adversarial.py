"""A text-to-semantic GPT whose emotion vector is to forget the speaker: the Stage 2 task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from components.adversary.emotion_bound import EmotionBound, norm_penalty
from components.adversary.ensemble import SpeakerAdversary
from components.models.unified_voice import UNTOLD, UnifiedVoice, UnifiedVoiceHidden
from components.probes.emotion import EmotionProbes
from core.contracts import LossSum, MetricSum, PairForm, RunContext, SpeechPairBatch, Task
from core.data.speaker_mapping import SPEAKERS, read_mapping
from core.errors import ConfigError, DataError, suggest
from core.registry import register
from core.train.parameters import parameter_table
from kernels.masked_ce import MaskedLoss, masked_cross_entropy


class _Read(NamedTuple):
    """Losses of a batch under both heads."""

    text: MaskedLoss
    semantic: MaskedLoss


@register("task", "speaker_adversarial")
class SpeakerAdversarialTask(Task):
    """Next-token losses of a text-to-semantic GPT, against classifiers of its emotion vector.

    Mel of the chosen utterance becomes an emotion vector e. It joins the speaker's latents in the
    prefix of the GPT, and goes through a gradient reversal into speaker classifiers (IndexTTS2,
    arXiv 2506.21619, stage 2; Ganin and Lempitsky 2015). Both get the same, bounded vector,
    computed in training and in evaluation by the same path. The loss is ``text_weight`` times the
    mean over text tokens plus ``semantic_weight`` times that over semantic tokens plus
    ``speaker_weight`` times that over rows whose speaker is mapped.

    Rows without mel take the stored emotion vector of the manifest; the data give them no speaker
    class, so they are no part of the speaker loss.

    While the adversary pre-trains, only its classifiers learn.

    Args:
        model: the GPT with its conditioners.
        adversary: classifiers behind the reversal; None trains the GPT alone.
        bound: on the emotion vector.
        text_weight: of the text loss.
        semantic_weight: of the semantic loss.
        speaker_weight: of the speaker loss, in front of the factor of the reversal.
        norm_weight: of the squared excess of the unbounded vector's root mean square over 1.
        emotion_noise: standard deviation of what is added to each element of the vector that the
            GPT gets in training; what it is to hear must then stand out, and small differences
            are left to nobody.
        freeze: submodules of the model that keep their weights.
        duration: what the two slots before the text hold: ``binary``, two learnt vectors as in the
            published models, or ``length``, the number of semantic tokens.
        duration_dropout: share of rows that are not told their length in training.
    """

    loss_names: ClassVar[tuple[str, ...]] = (
        "text_loss",
        "semantic_loss",
        "speaker_loss",
        "norm_penalty",
    )
    fresh_children: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"adversary": "classifiers, and how far the reversal has come, are of one run"}
    )
    metric_names: ClassVar[tuple[str, ...]] = (
        "gpt_loss",
        "semantic_accuracy",
        *SpeakerAdversary.metric_names,
    )

    def __init__(
        self,
        *,
        model: UnifiedVoice,
        adversary: SpeakerAdversary | None,
        bound: EmotionBound,
        text_weight: float = 0.2,
        semantic_weight: float = 0.8,
        speaker_weight: float = 0.1,
        norm_weight: float = 0.0,
        emotion_noise: float = 0.0,
        freeze: tuple[str, ...] = ("conditioning_encoder", "perceiver_encoder"),
        duration: Literal["binary", "length"] = "binary",
        duration_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.model = model
        self.adversary = adversary
        self.bound = bound
        self.weights = {
            "text_loss": text_weight,
            "semantic_loss": semantic_weight,
            "speaker_loss": speaker_weight,
            "norm_penalty": norm_weight,
        }
        for name, weight in self.weights.items():
            if weight < 0.0:
                raise ConfigError(f"speaker_adversarial: {name} has the weight {weight}, below 0")
        if not 0.0 <= emotion_noise < math.inf:
            raise ConfigError(
                f"speaker_adversarial: emotion_noise must be at least 0, but is {emotion_noise}"
            )
        self.emotion_noise = emotion_noise
        self.freeze = tuple(freeze)
        self.duration = duration
        self.duration_dropout = duration_dropout
        self._metrics: dict[str, MetricSum] = {}
        self._mapped = False

    def pair_form(self) -> PairForm:
        """Return what the model reads."""
        return self.model.pair_form()

    def setup(self, context: RunContext) -> None:
        """Create all parameters; the classifiers are sized by the run's speaker mapping.

        Raises:
            DataError: there is an adversary and the run has no speaker mapping.
            ConfigError: ``freeze`` names what the model does not have.
        """
        self.model.setup()
        self.bound.setup(dim=self.model.dim)
        self._freeze()
        path = context.assets / SPEAKERS
        self._mapped = path.is_file()
        if self.adversary is None:
            return
        if not path.is_file():
            raise DataError(
                "the speaker adversary needs to know the speakers: set data.speakers to a mapping; "
                "python -m core.prepare speakers MANIFEST OUTPUT makes one"
            )
        self.adversary.setup(
            input_dim=self.model.dim, num_speakers=len(read_mapping(path)), seed=context.seed
        )

    def _freeze(self) -> None:
        known = {name for name, _ in self.model.named_modules() if name}
        for name in self.freeze:
            if name not in known:
                hint = suggest(name, sorted(known), noun="submodules")
                raise ConfigError(f"task.freeze: the model has no submodule '{name}'; {hint}")
            self.model.get_submodule(name).requires_grad_(False)

    def outline(self) -> list[str]:
        """Return the parameter table; the classifiers wait for the speaker mapping."""
        with torch.device("meta"):
            self.model.setup()
            self.bound.setup(dim=self.model.dim)
        self._freeze()
        return [*parameter_table(self), "the classifiers are sized once the speakers are known"]

    def compile_targets(self) -> tuple[nn.Module, ...]:
        """Compile the GPT's blocks."""
        return (self.model.gpt,)

    # ---------------------------------------------------------------------------- training

    def counts(self, batch: SpeechPairBatch) -> dict[str, Tensor]:
        """Return target tokens and rows; none while only the classifiers learn."""
        rows = len(batch)
        found = {
            "text_loss": (batch.text.lengths.sum() + rows).double(),
            "semantic_loss": (batch.codes.lengths.sum() + rows).double(),
            "speaker_loss": SpeakerAdversary.counts(batch.speakers),
            "norm_penalty": torch.tensor(float(rows), dtype=torch.float64).to(
                batch.speakers.device
            ),
        }
        learning = 0.0 if self._only_classifiers else 1.0
        return {name: count * learning for name, count in found.items()}

    def step(self, batch: SpeechPairBatch) -> dict[str, LossSum]:
        """Return the losses of both heads, of the classifiers, and of the vector's size."""
        if self._only_classifiers:
            return self._listen(batch)
        unbounded = self._unbounded_emotion(batch)
        emotion = self.bound(unbounded, heard=_heard(batch))
        read = self._read(batch, self._noisy(emotion))
        rows = float(len(batch))
        losses = {
            "text_loss": _loss_sum(read.text),
            "semantic_loss": _loss_sum(read.semantic),
            "speaker_loss": self._speaker_loss(emotion, batch.speakers),
            "norm_penalty": norm_penalty(unbounded, free=1.0),
        }
        means = {
            name: losses[name].total.detach() / losses[name].count for name in self.loss_names[:2]
        }
        gpt_loss = sum(self.weights[name] * mean for name, mean in means.items())
        self._metrics = {
            "gpt_loss": MetricSum(total=gpt_loss * rows, count=rows),
            "semantic_accuracy": _accuracy(read.semantic),
            **(self.adversary.metrics() if self.adversary is not None else {}),
        }
        return {
            name: LossSum(total=loss.total, count=loss.count, weight=self.weights[name])
            for name, loss in losses.items()
        }

    def _listen(self, batch: SpeechPairBatch) -> dict[str, LossSum]:
        """Show the classifiers a batch; the GPT, which does not learn from it, is not run."""
        assert self.adversary is not None
        with torch.no_grad():
            emotion = self.emotion(batch)
        shown = self.adversary(emotion, batch.speakers)
        self._metrics = self.adversary.metrics()
        zero = _zero_of([p for p in self.parameters() if p.requires_grad])
        found = {name: LossSum(total=zero, count=0.0) for name in self.loss_names}
        return found | {"speaker_loss": LossSum(total=shown.total.detach() + zero, count=0.0)}

    def after_step(self, *, finite: bool) -> None:
        """Let the classifiers take their own steps, and move the mean of the bound on."""
        self.bound.after_step(finite=finite)
        if self.adversary is not None:
            self.adversary.after_step(finite=finite)

    def ready_from(self) -> int:
        """Return the first step at the full factor of the reversal."""
        return self.adversary.settled_from if self.adversary is not None else 0

    def train_metrics(self) -> dict[str, MetricSum]:
        """Return the GPT's weighed loss, its accuracy, and what the adversary watches."""
        return self._metrics

    # -------------------------------------------------------------------------- evaluation

    def evaluate(self, batch: SpeechPairBatch) -> dict[str, MetricSum]:
        """Return losses, accuracies, and how much the model misses its emotion vector.

        ``loss`` is the mean over rows of the weighed mean losses of each, so it does not depend on
        how rows are batched. ``emotion_use`` is by how much the semantic loss rises when rows get
        the vector of their neighbour, if they have one: near 0, the model does not listen to it.
        """
        emotion = self.emotion(batch)
        hidden = self._hidden(batch, emotion)
        text, semantic = self._by_row(hidden)
        rows = float(len(batch))
        per_row = self.weights["text_loss"] * text / (batch.text.lengths + 1) + self.weights[
            "semantic_loss"
        ] * semantic / (batch.codes.lengths + 1)
        tokens = batch.codes.lengths.sum() + rows
        found = {
            "loss": MetricSum(total=per_row.sum(), count=rows),
            "text_loss": MetricSum(total=text.sum(), count=batch.text.lengths.sum() + rows),
            "semantic_loss": MetricSum(total=semantic.sum(), count=tokens),
            "emotion_use": self._emotion_use(batch, emotion, semantic),
            "emotion_norm": MetricSum(
                total=torch.linalg.vector_norm(emotion.float(), dim=1).sum(), count=rows
            ),
        }
        if self.adversary is not None:
            found |= self.adversary.evaluate(emotion, batch.speakers)
        return found

    def emotion(self, batch: SpeechPairBatch) -> Tensor:
        """Return (B, D) emotion vectors as the GPT and the classifiers get them."""
        bounded: Tensor = self.bound(self._unbounded_emotion(batch), heard=_heard(batch))
        return bounded

    def probes(self, twin: nn.Module | None = None) -> EmotionProbes:
        """Return probes of the emotion vector. Raises ConfigError for a twin without one."""
        if twin is not None and not isinstance(twin, SpeakerAdversarialTask):
            raise ConfigError(f"a {type(twin).__name__} has no emotion vector to set beside this")
        models = [self] if twin is None else [self, twin]
        return EmotionProbes(models, mapped=self._mapped)

    # ----------------------------------------------------------------------------- details

    def _emotion_use(self, batch: SpeechPairBatch, emotion: Tensor, semantic: Tensor) -> MetricSum:
        """Return by how much (B,) summed semantic losses rise with the neighbours' vectors."""
        if len(batch) == 1:  # It has no vector but its own, and no loss would rise.
            return MetricSum(total=0.0, count=0.0)
        _, shuffled = self._by_row(self._hidden(batch, emotion.roll(1, dims=0)))
        tokens = batch.codes.lengths.sum() + float(len(batch))
        return MetricSum(total=(shuffled - semantic).sum(), count=tokens)

    @property
    def _only_classifiers(self) -> bool:
        return self.adversary is not None and self.adversary.pretraining

    def _speaker_loss(self, emotion: Tensor, speakers: Tensor) -> LossSum:
        if self.adversary is None:
            return LossSum(total=emotion.sum() * 0.0, count=0.0)
        return self.adversary(emotion, speakers)  # type: ignore[no-any-return]

    def _noisy(self, emotion: Tensor) -> Tensor:
        if not self.emotion_noise or not self.training:
            return emotion
        return emotion + self.emotion_noise * torch.randn_like(emotion)

    def _unbounded_emotion(self, batch: SpeechPairBatch) -> Tensor:
        """Return the vectors of the mels; of the manifest for rows without."""
        if batch.mel is None:
            return self._stored(batch)
        heard = self.model.emotion_vector(batch.mel.values, batch.mel.lengths)
        if batch.emotion is None:
            return heard
        return torch.where(_heard(batch).unsqueeze(1), heard, batch.emotion.to(heard.dtype))

    def _stored(self, batch: SpeechPairBatch) -> Tensor:
        if batch.emotion is None:
            raise DataError(
                f"rows {', '.join(batch.ids[:3])}: neither mel nor a stored emotion vector; run "
                "python -m core.prepare mel, then order"
            )
        return batch.emotion + _zero_of(self._emotion_branch())

    def _emotion_branch(self) -> list[nn.Parameter]:
        names = ("emo_conditioning_encoder", "emo_perceiver_encoder", "emovec_layer", "emo_layer")
        return [p for name in names for p in self.model.get_submodule(name).parameters()]

    def _hidden(self, batch: SpeechPairBatch, emotion: Tensor) -> UnifiedVoiceHidden:
        duration = None
        if self.duration == "length":
            duration = batch.codes.lengths
            if self.training:
                drawn = torch.rand(len(batch), device=duration.device)
                duration = duration.masked_fill(drawn < self.duration_dropout, UNTOLD)
        return self.model.hidden(
            batch.condition, emotion, batch.text, batch.codes, duration=duration
        )

    def _read(self, batch: SpeechPairBatch, emotion: Tensor) -> _Read:
        hidden = self._hidden(batch, emotion)
        return _Read(
            text=_cross_entropy(
                hidden.text, self.model.text_head, hidden.text_targets, hidden.text_mask
            ),
            semantic=_cross_entropy(
                hidden.semantic,
                self.model.mel_head,
                hidden.semantic_targets,
                hidden.semantic_mask,
            ),
        )

    def _by_row(self, hidden: UnifiedVoiceHidden) -> tuple[Tensor, Tensor]:
        """Return (B,) summed losses of both heads."""
        text = _token_losses(
            hidden.text, self.model.text_head, hidden.text_targets, hidden.text_mask
        )
        semantic = _token_losses(
            hidden.semantic, self.model.mel_head, hidden.semantic_targets, hidden.semantic_mask
        )
        return text.sum((1, 2)), semantic.sum((1, 2))


def _zero_of(parameters: list[nn.Parameter]) -> Tensor:
    """Return a zero whose gradient reaches ``parameters``, as distributed training requires."""
    return torch.stack([(parameter * 0.0).sum() for parameter in parameters]).sum()


def _cross_entropy(hidden: Tensor, head: nn.Linear, targets: Tensor, mask: Tensor) -> MaskedLoss:
    """Return the summed loss of counted tokens; logits of the others are never computed."""
    return masked_cross_entropy(
        hidden,
        head.weight.unsqueeze(0),
        head.bias.unsqueeze(0),
        targets.unsqueeze(-1),
        mask,
        reduction="sum",
        with_statistics=True,
    )


def _token_losses(hidden: Tensor, head: nn.Linear, targets: Tensor, mask: Tensor) -> Tensor:
    """Return (B, T, 1) losses, 0 where a token is not counted."""
    return masked_cross_entropy(
        hidden,
        head.weight.unsqueeze(0),
        head.bias.unsqueeze(0),
        targets.unsqueeze(-1),
        mask,
        reduction="none",
    )


def _heard(batch: SpeechPairBatch) -> Tensor:
    """Return which of (B,) rows have mel to compute their vector from."""
    if batch.mel is None:
        return torch.zeros(len(batch), dtype=torch.bool, device=batch.speakers.device)
    return batch.mel.lengths > 0


def _loss_sum(loss: MaskedLoss) -> LossSum:
    return LossSum(total=loss.loss, count=loss.masked)


def _accuracy(loss: MaskedLoss) -> MetricSum:
    return MetricSum(total=loss.correct.sum(), count=loss.masked)
