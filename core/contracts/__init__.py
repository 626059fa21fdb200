"""What crosses folders: the protocols that components fulfil and the records they exchange."""

from core.contracts.components import (
    Augmentation,
    Decoder,
    Encoder,
    Extent,
    Features,
    Head,
    OptimizerFactory,
    PlannedScheduler,
    Scheduler,
    Tokenizer,
)
from core.contracts.features import Adapted, FeatureBatch
from core.contracts.noisy import Eventful, NoisySpeechBatch, Padded
from core.contracts.pairs import UNMAPPED, SpeechPairBatch
from core.contracts.probing import (
    ProbeFindings,
    ProbeSuite,
    ProbingTask,
    SamplingData,
    UtteranceSample,
)
from core.contracts.records import (
    Artifact,
    Batch,
    Hypothesis,
    LossSum,
    MetricSum,
    Skipped,
    SpeechBatch,
    TokenTime,
    Transcript,
)
from core.contracts.run import (
    BatchStream,
    DataModule,
    Exhaustible,
    FixedRows,
    RunContext,
    RunInfo,
    Tracker,
)
from core.contracts.task import ErrorReport, Task, TranscribingTask

__all__ = [
    "UNMAPPED",
    "Adapted",
    "Artifact",
    "Augmentation",
    "Batch",
    "BatchStream",
    "DataModule",
    "Decoder",
    "Encoder",
    "ErrorReport",
    "Eventful",
    "Exhaustible",
    "Extent",
    "FeatureBatch",
    "Features",
    "FixedRows",
    "Head",
    "Hypothesis",
    "LossSum",
    "MetricSum",
    "NoisySpeechBatch",
    "OptimizerFactory",
    "Padded",
    "PlannedScheduler",
    "ProbeFindings",
    "ProbeSuite",
    "ProbingTask",
    "RunContext",
    "RunInfo",
    "SamplingData",
    "Scheduler",
    "Skipped",
    "SpeechBatch",
    "SpeechPairBatch",
    "Task",
    "TokenTime",
    "Tokenizer",
    "Tracker",
    "TranscribingTask",
    "Transcript",
    "UtteranceSample",
]
