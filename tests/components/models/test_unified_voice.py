from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from components.models.unified_voice import UNTOLD, UnifiedVoice, UnifiedVoiceHidden
from core.contracts.noisy import Padded
from core.errors import ConfigError, DataError
from core.registry import lookup
from tests.components.models import oracle
from tests.components.models.published import counts, shapes
from tests.components.models.tiny import make_model, padded

TEXTS = ([5, 9, 2, 40, 17], [63, 2], [], [8, 8, 8])
CODES = ([127, 3], [5, 6, 7, 8], [90], [])
LENGTHS = torch.tensor([31, 12, 23, 2])


def inputs(model: UnifiedVoice) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(4, model.num_latents, model.dim, generator=generator)
    features = torch.randn(4, 31, model.emotion_features, generator=generator)
    return latents.double(), features.double()


def row(batch: Padded, index: int) -> Padded:
    length = int(batch.lengths[index])
    return Padded(
        values=batch.values[index : index + 1, :length], lengths=batch.lengths[index : index + 1]
    )


def states_of(hidden: UnifiedVoiceHidden, index: int) -> Tensor:
    """Return what counts of a row: text, then codes."""
    text = hidden.text[index][hidden.text_mask[index]]
    return torch.cat([text, hidden.semantic[index][hidden.semantic_mask[index]]])


def run(model: UnifiedVoice, *, told: Tensor | None = None) -> UnifiedVoiceHidden:
    latents, features = inputs(model)
    emotion = model.emotion_vector(features, LENGTHS)
    text, codes = padded(*TEXTS, beyond=33), padded(*CODES, beyond=77)
    return model.hidden(latents, emotion, text, codes, duration=told)


def run_alone(model: UnifiedVoice, index: int, *, told: Tensor | None = None) -> UnifiedVoiceHidden:
    latents, features = inputs(model)
    length = LENGTHS[index : index + 1]
    emotion = model.emotion_vector(features[index : index + 1, : int(length)], length)
    return model.hidden(
        latents[index : index + 1],
        emotion,
        row(padded(*TEXTS), index),
        row(padded(*CODES), index),
        duration=told[index : index + 1] if told is not None else None,
    )


def gradients(model: UnifiedVoice) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_it_is_a_registered_model() -> None:
    assert lookup("model", "unified_voice") is UnifiedVoice


@pytest.mark.parametrize("text_vocab", [12000, 16000])
def test_the_published_size(text_vocab: int) -> None:
    with torch.device("meta"):
        model = UnifiedVoice(text_vocab=text_vocab)
        model.setup()
    have = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert have == shapes(text_vocab=text_vocab)
    parts = {n: sum(p.numel() for p in part.parameters()) for n, part in model.named_children()}
    assert parts == counts(text_vocab=text_vocab)


def test_the_formulas_give_the_published_millions() -> None:
    found = counts()
    classifier = (1280 * 512 + 512) + (512 * 500 + 500)
    assert sum(found.values()) == 865_980_639
    millions = {name: round(count / 1e6, 1) for name, count in found.items()}
    assert millions["gpt"] == 472.3
    assert millions["conditioning_encoder"] == 159.3
    assert millions["perceiver_encoder"] == 19.1
    assert millions["emo_conditioning_encoder"] == 146.6
    assert millions["emo_perceiver_encoder"] == 11.0
    assert round((sum(found.values()) + classifier) / 1e6, 1) == 866.9


def test_a_tiny_one_is_a_quarter_million() -> None:
    model = make_model()
    assert 0.2e6 < sum(p.numel() for p in model.parameters()) < 0.35e6


def test_parameters_exist_after_setup_alone() -> None:
    assert list(UnifiedVoice().parameters()) == []
    model = make_model(scale=0.0)
    assert model.speed_emb.weight.abs().max() == 0
    for table in (model.text_embedding, model.mel_embedding, model.mel_pos_embedding.emb):
        assert abs(table.weight.std().item() - 0.02) < 0.002


@pytest.mark.parametrize("told", [None, torch.tensor([2, 4, UNTOLD, 0])])
def test_a_row_equals_loops(told: Tensor | None) -> None:
    model = make_model().double().eval()
    weights = oracle.weights_of(model)
    latents, features = inputs(model)
    hidden = run(model, told=told)
    for index in range(4):
        if LENGTHS[index] < 3:
            continue
        frames = oracle.conditioner(
            features[index, : int(LENGTHS[index])].numpy(),
            oracle.under(weights, "emo_conditioning_encoder."),
            layers=2,
        )
        perceiver = oracle.under(weights, "emo_perceiver_encoder.")
        latent = oracle.resampler(frames, perceiver, layers=2, heads=2)[0]
        emotion = oracle.linear(
            oracle.linear(latent, weights, "emovec_layer"), weights, "emo_layer"
        )
        positions = weights["mel_pos_embedding.emb.weight"]
        slot = weights["speed_emb.weight"][1]
        if told is not None:
            slot = positions[told[index] + 1] if told[index] >= 0 else 0 * slot
        text = [0, *TEXTS[index], 1]
        codes = [128, *CODES[index], 129]
        sequence = [
            *(latents[index].numpy() + emotion),
            slot,
            weights["speed_emb.weight"][0],
            *(weights["text_embedding.weight"][text] + _rows(weights, "text", len(text))),
            *(weights["mel_embedding.weight"][codes] + _rows(weights, "mel", len(codes))),
        ]
        states = oracle.gpt(np.stack(sequence), oracle.under(weights, "gpt."), layers=2, heads=2)
        states = oracle.layer_norm(states, weights, "final_norm")[6:]
        real = [*states[: len(text) - 1], *states[len(text) : -1]]
        got = states_of(hidden, index).detach().numpy()
        np.testing.assert_allclose(got, np.stack(real), atol=1e-6)


def _rows(weights: oracle.Weights, stream: str, count: int) -> oracle.Array:
    return weights[f"{stream}_pos_embedding.emb.weight"][:count]


def test_targets_are_the_tokens_and_one_stop() -> None:
    hidden = run(make_model().double())
    assert hidden.text.shape == (4, 7, 64)
    assert hidden.semantic.shape == (4, 6, 64)
    for index in range(4):
        text = hidden.text_targets[index][hidden.text_mask[index]]
        assert text.tolist() == [*TEXTS[index], 1]
        codes = hidden.semantic_targets[index][hidden.semantic_mask[index]]
        assert codes.tolist() == [*CODES[index], 129]


def test_padding_changes_neither_states_nor_gradients() -> None:
    model = make_model().double().eval()
    told = torch.tensor([2, 4, 1, 0])
    whole = run(model, told=told)
    coefficients = torch.randn(64, dtype=torch.float64)
    sum((states_of(whole, i) @ coefficients).square().sum() for i in range(4)).backward()  # type: ignore[union-attr]
    together = gradients(model)
    for index in range(4):
        alone = run_alone(model, index, told=told)
        states = states_of(alone, 0)
        torch.testing.assert_close(states_of(whole, index), states, rtol=1e-9, atol=1e-9)
        (states @ coefficients).square().sum().backward()
    apart = gradients(model)
    assert together.keys() == apart.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name], rtol=1e-8, atol=1e-8)


def test_padding_in_single_precision() -> None:
    model = make_model().eval()
    _, features = inputs(model)
    features = features.float()
    together = model.emotion_vector(features, LENGTHS)
    for index, length in enumerate(LENGTHS.tolist()):
        alone = model.emotion_vector(
            features[index : index + 1, :length], LENGTHS[index : index + 1]
        )
        torch.testing.assert_close(together[index], alone[0], rtol=1e-5, atol=1e-5)


def test_mixed_precision_is_near_full_precision() -> None:
    model = make_model(scale=0.05).eval()
    latents, features = (x.float() for x in inputs(model))
    text, codes = padded(*TEXTS), padded(*CODES)

    def states() -> Tensor:
        emotion = model.emotion_vector(features, LENGTHS)
        hidden = model.hidden(latents, emotion, text, codes)
        return hidden.semantic[hidden.semantic_mask].float()

    full = states()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = states()
    mixed.square().mean().backward()
    assert float((mixed - full).detach().norm() / full.detach().norm()) < 0.05
    gradients_ = gradients(model).values()
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in gradients_)


def test_padding_of_texts_between_is_seen_as_published() -> None:
    last = make_model().double().eval()
    between = make_model(text_padding="between").double().eval()
    one, other = run(last), run(between)
    longest = 0  # the row without padding of its text
    torch.testing.assert_close(states_of(one, longest), states_of(other, longest))
    torch.testing.assert_close(one.text[one.text_mask], other.text[other.text_mask])
    difference = (one.semantic[1] - other.semantic[1])[one.semantic_mask[1]].abs().max()
    assert difference > 1e-3


def test_nothing_reads_ahead() -> None:
    model = make_model().double().eval()
    latents, _ = inputs(model)
    emotion = torch.zeros(4, 64, dtype=torch.float64)

    def states(text: Padded, codes: Padded) -> Tensor:
        hidden = model.hidden(latents, emotion, text, codes)
        return torch.cat([hidden.text, hidden.semantic], dim=1)[0]

    texts, codes = padded([5, 6, 7]), padded([10, 11, 12, 13])
    latents, emotion = latents[:1], emotion[:1]
    base = states(texts, codes)
    changed = states(texts, padded([10, 11, 99, 13]))
    assert torch.equal(base[: 5 + 3], changed[: 5 + 3])
    assert not torch.allclose(base[5 + 3], changed[5 + 3])


def test_the_emotion_joins_every_latent_and_nothing_else() -> None:
    model = make_model()
    latents, emotion = torch.randn(2, 4, 64), torch.randn(2, 64)
    prefix = model._prefix(latents, emotion, None)
    assert torch.equal(prefix[:, :4], latents + emotion[:, None])
    assert torch.equal(prefix[:, 4], model.speed_emb.weight[1].expand(2, -1))
    assert torch.equal(prefix[:, 5], model.speed_emb.weight[0].expand(2, -1))


def parts_with_gradient(model: UnifiedVoice) -> Iterator[tuple[str, bool]]:
    for name, part in model.named_children():
        given = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in part.parameters()]
        yield name, bool(given) and all(given)


def test_the_loss_on_codes_reaches_the_emotion_branch_and_leaves_the_speaker_branch() -> None:
    model = make_model().double()
    hidden = run(model)
    logits = model.mel_head(hidden.semantic[hidden.semantic_mask])
    targets = hidden.semantic_targets[hidden.semantic_mask]
    torch.nn.functional.cross_entropy(logits, targets).backward()
    reached = {name for name, given in parts_with_gradient(model) if given}
    assert reached >= {"emo_conditioning_encoder", "emo_perceiver_encoder", "emo_layer"}
    assert reached >= {"emovec_layer", "gpt", "final_norm", "mel_head", "speed_emb"}
    for part in (model.conditioning_encoder, model.perceiver_encoder, model.text_head):
        assert all(p.grad is None for p in part.parameters())


def test_speaker_latents_reach_every_parameter_of_their_branch() -> None:
    model = make_model()
    latents = model.speaker_latents(torch.randn(2, 20, 16), torch.tensor([20, 9]))
    assert latents.shape == (2, 4, 64)
    latents.square().sum().backward()
    reached = {name for name, given in parts_with_gradient(model) if given}
    assert reached == {"conditioning_encoder", "perceiver_encoder"}


def test_sequences_beyond_the_positions_are_refused() -> None:
    model = make_model()
    latents, emotion = torch.randn(1, 4, 64), torch.randn(1, 64)
    model.hidden(latents, emotion, padded([2] * 32), padded([2] * 96), duration=torch.tensor([96]))
    with pytest.raises(DataError, match="text of 33 tokens; the model has positions for 32"):
        model.hidden(latents, emotion, padded([2] * 33), padded([2]))
    with pytest.raises(DataError, match="codes of 97 tokens"):
        model.hidden(latents, emotion, padded([2]), padded([2] * 97))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads=3 must divide an even width, found 64"),
        ({"emotion_heads": 5}, "emotion_heads=5"),
        ({"emotion_features": 2}, "emotion_features must be at least 3"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_model(**options)
