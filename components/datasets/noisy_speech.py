"""Speech beside its noisy form, for learning without transcripts."""

from __future__ import annotations

from collections.abc import Iterable

from components.datasets.named_splits import NamedSplits
from core.contracts import Batch, BatchStream, RunContext
from core.data.assets import main_rank_first
from core.data.audio import Channel
from core.data.corpus import CorpusOptions
from core.data.loading import LoaderOptions
from core.data.noise import NoiseSampler
from core.data.noisy import NoisyCollator, SpeechMixer
from core.data.plan import PlanOptions
from core.data.source import AnySource, StreamSource
from core.data.splits import TRAIN, Splits
from core.data.uri import open_source
from core.errors import ConfigError
from core.registry import register


@register("data", "noisy_speech")
class NoisySpeechData(NamedSplits):
    """Batches of clean and noisy audio from sources named by URI; transcripts are not looked at.

    Noise is drawn from the run's seed, the split, and what is in the batch, in evaluation as in
    training. So batches do not depend on the number of workers, a resumed run hears the noise that
    it would have heard, every epoch and rank hears other noise, and each validation is the same.
    (NeMo draws validation anew each time, so that a part of every change in its loss is luck.)

    What had to be repeated, redrawn or replaced is in the batches' ``events``, which the callback
    ``events`` reports. Noise of which nothing can be read is replaced by white noise: the summary
    and a warning say so, and every draw is counted.

    Args:
        train: source of training, such as ``nemo:train.jsonl``.
        validation: sources of validation by split name.
        test: sources that are evaluated once, by split name.
        noise: source of noise, with random access; None for none.
        validation_noise: of validation and test; None for that of training.
        augmentation: mixes the noisy form; None to hear what was recorded.
        validation_augmentation: of validation and test; None for that of training, so that what is
            measured is what is trained.
        batch_seconds: most seconds of a micro-batch, padding included.
        sample_rate: of batches in Hz; audio of other rates is resampled.
        max_batch: most utterances of a micro-batch; None for no limit.
        min_seconds: shortest utterance, in training and evaluation. A file whose duration the
            manifest does not declare is measured and judged alike; NeMo keeps it at any length.
        max_seconds: longest utterance of training; an utterance longer than ``batch_seconds`` is
            left out as well, with its own count.
        repeat_to_seconds: length up to which shorter audio is repeated; 0 to leave it short.
        channel: what to do with audio of several channels: ``refuse``, ``mean`` or a number.
        workers: processes that load training batches; 0 to load in the training process.
        timeout: seconds after which a worker that gives no batch counts as hung.
        jitter: share by which lengths may vary when batches are planned; see
            :class:`core.data.plan.PlanOptions`.
        buffer: utterances that each worker of a streaming source holds to sort and shuffle.
        drop_last: leave out what fills no batch of ``max_batch``, others each epoch, as NeMo's
            published configuration does; False to train on everything.
        cache_dir: where derived files are kept; None for ``sori`` in the user's cache folder.
    """

    def __init__(
        self,
        *,
        train: str,
        validation: dict[str, str],
        test: dict[str, str],
        noise: str | None,
        batch_seconds: float,
        augmentation: SpeechMixer | None,
        validation_noise: str | None = None,
        validation_augmentation: SpeechMixer | None = None,
        sample_rate: int = 16000,
        max_batch: int | None = None,
        min_seconds: float = 1.0,
        max_seconds: float = 60.0,
        repeat_to_seconds: float = 1.0,
        channel: Channel = "refuse",
        workers: int = 0,
        timeout: float = 300.0,
        jitter: float = 0.02,
        buffer: int = 1000,
        drop_last: bool = False,
        cache_dir: str | None = None,
    ) -> None:
        if repeat_to_seconds > batch_seconds:
            raise ConfigError(
                f"noisy_speech: batch_seconds={batch_seconds:g} does not hold one utterance of "
                f"repeat_to_seconds={repeat_to_seconds:g}"
            )
        if drop_last and max_batch is None:
            raise ConfigError("noisy_speech: drop_last needs max_batch, the size of a full batch")
        self.train = train
        self.validation = dict(validation)
        self.test = dict(test)
        self.noise = noise
        self.validation_noise = validation_noise
        self.augmentation = augmentation
        self.validation_augmentation = validation_augmentation
        self.sample_rate = sample_rate
        self.repeat_to_seconds = repeat_to_seconds
        self.channel = channel
        self._samplers: dict[str, NoiseSampler] = {}
        self._splits = Splits(
            train=train,
            validation=validation,
            test=test,
            options=CorpusOptions(
                plan=PlanOptions(
                    batch_seconds=batch_seconds,
                    max_utterances=max_batch,
                    jitter=jitter,
                    drop_last=drop_last,
                ),
                loading=LoaderOptions(workers=workers, timeout=timeout),
                buffer=buffer,
                min_seconds=min_seconds,
                max_seconds=max_seconds,
                training=True,
                least_seconds=repeat_to_seconds,
            ),
            cache_dir=cache_dir,
        )

    def setup(self, context: RunContext) -> None:
        """Open all sources; with ``context.training`` unset, none before it is asked for.

        Raises:
            DataError: a source is missing, empty or damaged.
            ConfigError: a URI is not valid, two splits share a name, or noise is a stream.
        """
        self._splits.setup(context)
        if context.training:
            with main_rank_first(context):
                for split in (TRAIN, *self._splits.uris):
                    self._sampler(split)

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""
        return self._splits.train.train_stream(self._collator(TRAIN))

    def eval_batches(self, split: str) -> Iterable[Batch]:
        """Return this rank's share of a split, longest utterances first; the same every time."""
        return self._splits.evaluation(split).eval_batches(self._collator(split))

    def open_split(self, uri: str) -> Iterable[Batch]:
        """Return a source, or a split by name, with the noise of validation."""
        return self._splits.open(uri).eval_batches(self._collator(uri))

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of each opened source, noise by its URI."""
        noise = {uri: sampler.fingerprint for uri, sampler in self._samplers.items()}
        return self._splits.fingerprint() | noise

    def summary(self) -> list[str]:
        """Return what each source has, what filters dropped, and where noise comes from."""
        lines = self._splits.summary()
        for uri, sampler in self._samplers.items():
            lines += [f"noise: {uri}: {line}" for line in sampler.summary()]
        if self.noise is None and self.augmentation is not None:
            lines.append("noise: none; an utterance that was to be mixed with it stays clean")
        return lines

    def _collator(self, split: str) -> NoisyCollator:
        augmentation = self.augmentation
        if split != TRAIN and self.validation_augmentation is not None:
            augmentation = self.validation_augmentation
        return NoisyCollator(
            sample_rate=self.sample_rate,
            channel=self.channel,
            repeat_to=round(self.repeat_to_seconds * self.sample_rate),
            noise=self._sampler(split) if augmentation is not None else None,
            mixer=augmentation,
            seed=f"{self._splits.context.seed}/{split}",
        )

    def _sampler(self, split: str) -> NoiseSampler | None:
        """Return the noise of a split, opened once for all splits that share it."""
        uri = self.noise
        if split != TRAIN and self.validation_noise is not None:
            uri = self.validation_noise
        if uri is None:
            return None
        if uri not in self._samplers:
            source: AnySource = open_source(uri, cache_dir=self._splits.cache)
            if isinstance(source, StreamSource):
                raise ConfigError(
                    f"noise '{uri}' is a stream, and noise is drawn at random; use a manifest with "
                    "random access, such as nemo:, cuts: or kaldi:"
                )
            self._samplers[uri] = NoiseSampler(
                source=source, sample_rate=self.sample_rate, channel=self.channel
            )
        return self._samplers[uri]
