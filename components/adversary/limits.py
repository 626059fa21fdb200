"""What tells that a speaker adversary has failed, as limits for the ``alarms`` callback."""

from __future__ import annotations

import fiddle as fdl

from core.train.callbacks.alarms import START, Limit


def adversary_limits(
    *,
    loss: str = "train/gpt_loss",
    loss_rise: float = 0.05,
    norm_growth: float = 3.0,
    anti_learning: float = 0.5,
    least_use: float = 1e-3,
    patience: int = 2,
) -> list[fdl.Config[Limit]]:
    """Return limits on the metrics of :class:`SpeakerAdversary`, for an experiment's alarms.

    Args:
        loss: main loss, as it is logged.
        loss_rise: share by which it may lie above the first value logged.
        norm_growth: factor by which the emotion vector's norm may grow over the first logged.
        anti_learning: share of chance that the classifiers' accuracy must reach.
        least_use: of what a wrong vector must add to the semantic loss of the split ``val``, once
            the reversal has its full factor.
        patience: log lines in a row before the main loss or unmapped speakers raise an alarm, and
            validations before an unused vector does.
    """
    return [
        fdl.Config(
            Limit,
            name="speakers_unmapped",
            metric="train/speaker_coverage",
            below=1e-9,
            patience=patience,
            hint="No row has a mapped speaker, so the speaker loss does nothing: compare the "
            "speakers of the manifest with those of the mapping",
        ),
        fdl.Config(
            Limit,
            name="classifier_constant",
            metric="train/speaker_unique",
            below=2.0,
            hint="A classifier answers the same for every row, and its gradient teaches nothing: "
            "raise adversary.lr or adversary.steps, or let members be re-initialised",
        ),
        fdl.Config(
            Limit,
            name="anti_learning",
            metric="train/speaker_lift",
            below=anti_learning,
            hint="Accuracy well below chance is no anonymity: the emotion vector misleads these "
            "classifiers, and fresh ones will find the speaker. Raise adversary.steps or "
            "adversary.members, or lower lambda",
        ),
        fdl.Config(
            Limit,
            name="emotion_norm",
            metric="train/emotion_norm",
            above=norm_growth,
            relative_to=START,
            hint="The emotion vector grows instead of forgetting: bound it (bound=rms) or "
            "penalise its norm",
        ),
        fdl.Config(
            Limit,
            name="main_loss",
            metric=loss,
            above=1.0 + loss_rise,
            relative_to=START,
            patience=patience,
            hint="The adversary costs speech: lower lambda, the speaker loss weight or the "
            "learning rate",
        ),
        fdl.Config(
            Limit,
            name="emotion_unused",
            metric="val/emotion_use",
            below=least_use,
            patience=patience,
            hint="The model speaks as well with the vector of another utterance: it has not learnt "
            "to listen yet, or the adversary has emptied the vector; then lower lambda or the "
            "speaker loss weight",
        ),
    ]
