from __future__ import annotations

import copy
import math
import socket
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.adversary.ensemble import SpeakerAdversary
from components.adversary.lambda_schedules import ConstantLambda, LinearLambda
from components.adversary.speaker_classifier import SpeakerClassifier
from components.optimizers.groups import parameter_groups
from core.contracts import UNMAPPED
from core.errors import ConfigError

DIM, SPEAKERS = 6, 4


def adversary(*, dropout: float = 0.3, seed: int = 3, **settings: Any) -> SpeakerAdversary:
    settings = {"schedule": LinearLambda(value=0.5, ramp_steps=4), "members": 2, **settings}
    made = SpeakerAdversary(classifier=SpeakerClassifier(hidden=8, dropout=dropout), **settings)
    made.setup(input_dim=DIM, num_speakers=SPEAKERS, seed=seed)
    return made


def rows(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return vectors in which the speaker is plain to see; every fifth speaker is unmapped."""
    generator = torch.Generator().manual_seed(seed)
    speakers = torch.randint(0, SPEAKERS, (number,), generator=generator)
    emotion = torch.randn(number, DIM, generator=generator) * 0.3
    emotion[torch.arange(number), speakers] += 2.0
    speakers[::5] = UNMAPPED
    return emotion, speakers


def take_steps(made: SpeakerAdversary, first: int, last: int) -> list[Tensor]:
    """Return the gradients into the emotion vectors of steps ``first`` up to ``last``."""
    found = []
    for step in range(first, last):
        for half in range(2):
            emotion, speakers = rows(10, seed=2 * step + half)
            emotion.requires_grad_()
            made(emotion, speakers).total.backward()
            assert emotion.grad is not None
            found.append(emotion.grad)
        made.after_step(finite=True)
    return found


def advance(made: SpeakerAdversary, steps: int) -> None:
    for _ in range(steps):
        made.reversal.advance()


def test_the_gradient_is_minus_lambda_times_that_of_the_members_mean() -> None:
    made = adversary()
    advance(made, 3)
    emotion, speakers = rows(10, seed=1)
    emotion.requires_grad_()
    loss = made(emotion, speakers)
    loss.total.backward()
    assert emotion.grad is not None
    plain = emotion.detach().clone().requires_grad_()
    members = [member for member, _ in made._pairs()]
    total = sum(m.score(plain, speakers).total for m in members) / len(members)
    assert isinstance(total, Tensor)
    total.backward()
    assert plain.grad is not None
    torch.testing.assert_close(emotion.grad, -0.375 * plain.grad)
    torch.testing.assert_close(loss.total, total)
    assert int(loss.count) == 8


def test_rows_that_a_member_guesses_on_get_no_gradient_from_it() -> None:
    emotion, speakers = rows(30, seed=1)
    found = {}
    for stops in (False, True):
        made = adversary(members=1, stop_at_chance=stops)
        advance(made, 4)
        given = emotion.clone().requires_grad_()
        loss = made(given, speakers)
        (found[stops],) = torch.autograd.grad(loss.total, given)
    assert isinstance(found[True], Tensor)
    member = made._pairs()[0][0]
    each = F.cross_entropy(member(emotion), speakers, ignore_index=UNMAPPED, reduction="none")
    guessed = each >= math.log(SPEAKERS)
    assert 0 < int(guessed.sum()) < 24
    assert not found[True][guessed].any()
    assert torch.equal(found[True][~guessed], found[False][~guessed])


def test_noise_is_drawn_anew_for_classifiers_in_training_alone() -> None:
    made = adversary(noise=0.5, dropout=0.0)
    advance(made, 4)
    emotion, speakers = rows(10, seed=1)
    assert float(made(emotion, speakers).total) != float(made(emotion, speakers).total)
    once = made.evaluate(emotion, speakers)["speaker_loss"].total
    assert torch.equal(
        torch.as_tensor(once), made.evaluate(emotion, speakers)["speaker_loss"].total
    )
    made.eval()
    assert torch.equal(made(emotion, speakers).total, made(emotion, speakers).total)


def test_small_differences_deceive_no_classifier_that_learnt_with_noise() -> None:
    """Speakers that lie close together are told apart without noise, and not with it."""
    accuracy = {}
    for noise in (0.0, 1.0):
        made = adversary(noise=noise, dropout=0.0, steps=10, lr=1e-2, seed=5)
        torch.manual_seed(0)
        for step in range(60):
            emotion, speakers = rows(40, seed=step)
            made(emotion * 0.05, speakers)
            made.after_step(finite=True)
        emotion, speakers = rows(200, seed=1000)
        found = made(emotion * 0.05, speakers)
        accuracy[noise] = float(found.total) / float(found.count)
    assert accuracy[0.0] < 0.2
    assert accuracy[1.0] > 0.8 * math.log(SPEAKERS)


def test_the_models_step_leaves_the_classifiers_alone() -> None:
    made = adversary()
    task = nn.ModuleDict({"model": nn.Linear(DIM, DIM), "adversary": made})
    (group, biases) = parameter_groups(task, lr=1.0, weight_decay=0.1)
    names = [name for name, _ in (*group["params"], *biases["params"])]
    assert names == ["model.weight", "model.bias"]
    emotion, speakers = rows(10, seed=1)
    made(task["model"](emotion), speakers).total.backward()
    assert all(p.grad is None for p in made.parameters())


def test_the_classifiers_learn_after_the_step_and_find_plain_speakers() -> None:
    made = adversary(lr=1e-2, schedule=ConstantLambda(value=1.0))
    losses = []
    for step in range(60):
        emotion, speakers = rows(32, seed=step)
        loss = made(emotion, speakers)
        losses.append(float(loss.total.detach()) / float(loss.count))
        made.after_step(finite=True)
    assert losses[0] > 0.5 * math.log(SPEAKERS)
    assert losses[-1] < 0.1
    accuracy = made.metrics()["speaker_acc"]
    assert float(accuracy.total) / float(accuracy.count) > 0.95


@pytest.mark.parametrize("memory", [0, 20])
def test_micro_batches_make_no_difference(memory: int) -> None:
    whole, parts = (adversary(dropout=0.0, memory=memory) for _ in range(2))
    for step in range(5):
        emotion, speakers = rows(16, seed=step)
        whole(emotion, speakers)
        for part in range(4):
            window = slice(4 * part, 4 * part + 4)
            parts(emotion[window], speakers[window])
        whole.after_step(finite=True)
        parts.after_step(finite=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, msg=name)
    assert int(parts.reversal.step) == 5


@pytest.mark.parametrize(("memory", "noise"), [(0, 0.0), (25, 0.0), (25, 0.5)])
@pytest.mark.parametrize("at", [1, 2, 5, 7])
def test_a_resumed_run_goes_on_bit_by_bit(at: int, memory: int, noise: float) -> None:
    settings = {
        "reinit_every": 3,
        "pretrain_steps": 2,
        "steps": 2,
        "memory": memory,
        "noise": noise,
    }
    torch.manual_seed(0)
    whole = adversary(**settings)
    gradients = take_steps(whole, 0, 9)

    torch.manual_seed(0)
    first = adversary(**settings)
    take_steps(first, 0, at)
    weights, state = copy.deepcopy(first.state_dict()), torch.get_rng_state()
    second = adversary(**settings)
    torch.manual_seed(99)
    second.load_state_dict(weights)
    torch.set_rng_state(state)
    resumed = take_steps(second, at, 9)
    for left, right in zip(resumed, gradients[2 * at :], strict=True):
        assert torch.equal(left, right)
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_a_skipped_step_teaches_nothing_but_counts() -> None:
    made = adversary()
    before = {name: p.clone() for name, p in made.named_parameters()}
    made(*rows(10, seed=0))
    made.after_step(finite=False)
    made(*rows(10, seed=0))
    made.train(False)
    made(*rows(10, seed=0))  # Evaluation leaves no rows behind.
    made.after_step(finite=False)
    for name, value in made.named_parameters():
        assert torch.equal(value, before[name])
    assert int(made.reversal.step) == 2
    made.after_step(finite=True)  # Nothing was kept.
    assert int(made._pairs()[0][1].updates) == 0


def test_a_step_without_mapped_rows_moves_nothing() -> None:
    made = adversary(weight_decay=0.5)
    emotion, speakers = rows(10, seed=0)
    made(emotion, speakers)
    made.after_step(finite=True)  # So that there is momentum.
    before = {name: value.clone() for name, value in made.state_dict().items()}
    emotion.requires_grad_()
    loss = made(emotion, torch.full_like(speakers, UNMAPPED))
    loss.total.backward()
    assert (float(loss.total.detach()), int(loss.count)) == (0.0, 0)
    assert emotion.grad is not None
    assert not emotion.grad.any()
    made.after_step(finite=True)
    for name, value in made.state_dict().items():
        if not name.startswith("reversal"):
            assert torch.equal(value, before[name]), name
    assert float(made.metrics()["speaker_coverage"].total) == 0.0


def test_members_are_re_initialised_in_turn_from_seed_and_step() -> None:
    made, twin, other = adversary(reinit_every=2), adversary(reinit_every=2), adversary(seed=4)
    weights = [member.input.weight for member, _ in made._pairs()]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], other._pairs()[0][0].input.weight)
    fresh = []
    for step in range(1, 7):
        before = [weight.clone() for weight in weights]
        made(*rows(10, seed=step))
        made.after_step(finite=True)
        updates = [int(optimizer.updates) for _, optimizer in made._pairs()]
        fresh.append([count == 0 for count in updates])
        assert not torch.equal(weights[0], before[0])
    assert [index for index, members in enumerate(fresh, 1) if members[0]] == [2, 6]
    assert [index for index, members in enumerate(fresh, 1) if members[1]] == [4]
    for _ in range(6):  # The draw depends on seed and step, not on what was learnt.
        twin.after_step(finite=True)
    assert torch.equal(twin._pairs()[0][0].input.weight, weights[0])


def test_pretraining_holds_lambda_and_measures_what_leaks() -> None:
    made = adversary(pretrain_steps=40, lr=1e-2, schedule=ConstantLambda(value=1.0))
    found = []
    for step in range(45):
        assert made.pretraining == (step < 40)
        found.append(float(made.reversal.factor))
        made(*rows(32, seed=step))
        made.after_step(finite=True)
    assert found == [0.0] * 41 + [1.0] * 4
    baseline = made.metrics()["speaker_baseline"]
    value = float(baseline.total) / float(baseline.count)
    assert 0.8 < value <= 1.0
    for _ in range(20):  # It does not move afterwards.
        made(torch.zeros(8, DIM), torch.zeros(8, dtype=torch.int64))
        made.after_step(finite=True)
    made(torch.zeros(8, DIM), torch.zeros(8, dtype=torch.int64))
    baseline = made.metrics()["speaker_baseline"]
    assert float(baseline.total) / float(baseline.count) == value


def test_metrics_are_those_declared() -> None:
    made = adversary()
    emotion, speakers = rows(10, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        made(emotion.bfloat16(), speakers)
    metrics = made.metrics()
    assert set(metrics) == set(SpeakerAdversary.metric_names)
    values = {n: float(m.total) / float(m.count) for n, m in metrics.items() if float(m.count)}
    assert values["grl_lambda"] == 0.0
    assert values["speaker_chance"] == 1 / SPEAKERS
    assert values["speaker_coverage"] == 0.8
    assert values["emotion_norm"] == pytest.approx(float(emotion.norm(dim=1).mean()), rel=1e-2)
    assert {"speaker_baseline", "speaker_lift", "speaker_unique"}.isdisjoint(values), "not known"


def test_evaluation_keeps_nothing_and_gives_loss_and_accuracy() -> None:
    made = adversary().eval()
    emotion, speakers = rows(10, seed=0)
    metrics = made.evaluate(emotion, speakers)
    logits = torch.stack([member(emotion) for member, _ in made._pairs()])
    keep = speakers != UNMAPPED
    expected = torch.stack([F.cross_entropy(each[keep], speakers[keep]) for each in logits]).mean()
    loss = metrics["speaker_loss"]
    torch.testing.assert_close(torch.as_tensor(loss.total) / loss.count, expected)
    assert not made._seen


def test_rows_of_former_steps_are_learnt_from_until_they_give_way() -> None:
    """What is shown once is learnt as well as what is shown always, as long as it is remembered."""

    def loss_of_the_first(memory: int) -> float:
        torch.manual_seed(0)
        made = adversary(lr=1e-2, dropout=0.0, memory=memory)
        early = rows(16, seed=1)
        made(*early)
        made.after_step(finite=True)
        for step in range(30):
            emotion, speakers = rows(4, seed=2 + step)
            made(emotion * 0.0, speakers)
            made.after_step(finite=True)
        with torch.no_grad():
            found = made.evaluate(*early)["speaker_loss"]
        return float(found.total) / float(found.count)

    forgotten = loss_of_the_first(0)
    assert loss_of_the_first(8) == pytest.approx(forgotten, rel=0.5)
    assert loss_of_the_first(200) < 0.5 * forgotten


def test_the_outline_on_the_meta_device_has_the_counts_of_the_members() -> None:
    with torch.device("meta"):
        made = adversary(members=3)
    assert sum(p.numel() for p in made.parameters()) == 3 * (DIM * 8 + 8 + 8 * SPEAKERS + SPEAKERS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": 0}, "members must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"pretrain_steps": -1}, "pretrain_steps must be at least 0"),
        ({"reinit_every": 0}, "reinit_every must be at least 1, but is 0; null"),
        ({"memory": -1}, "memory must be at least 0"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"noise": -0.1}, "noise must be at least 0, but is -0.1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adversary(**settings)


def _rank(rank: int, port: int, queue: Any) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    made = adversary(dropout=0.0, reinit_every=3, steps=2, memory=30)
    for step in range(5):
        emotion, speakers = rows(16, seed=step)
        # Ragged shares; rank 1 has no batch at all in step 2.
        share = slice(0, 16 if step == 2 else 11) if rank == 0 else slice(11, 16)
        if rank == 0 or step != 2:
            made(emotion[share], speakers[share])
        made.after_step(finite=True)
    queue.put((rank, {name: value.tolist() for name, value in made.named_parameters()}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks_learn_what_one_learns() -> None:
    alone = adversary(dropout=0.0, reinit_every=3, steps=2, memory=30)
    for step in range(5):
        alone(*rows(16, seed=step))
        alone.after_step(finite=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_rank, args=(rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in range(2))
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert found[0] == found[1]
    for name, value in alone.named_parameters():
        torch.testing.assert_close(torch.tensor(found[0][name]), value, msg=name)
