from __future__ import annotations

import pytest
import torch

from components.adversary.emotion_bound import EmotionBound, norm_penalty
from core.errors import ConfigError


def test_rms_keeps_the_direction_and_fixes_the_size() -> None:
    emotion = torch.randn(5, 8) * torch.tensor([1e-3, 1.0, 10.0, 1e3, 1e5]).unsqueeze(1)
    bounded = EmotionBound(bound="rms", target=2.0)(emotion)
    torch.testing.assert_close(
        bounded.square().mean(1).sqrt(), torch.full((5,), 2.0), rtol=1e-4, atol=0
    )
    cosine = torch.nn.functional.cosine_similarity(bounded, emotion)
    torch.testing.assert_close(cosine, torch.ones(5))


def test_growing_a_bounded_vector_gains_nothing() -> None:
    emotion = torch.randn(3, 8, requires_grad=True)
    weight = torch.randn(8)
    (EmotionBound(bound="rms")(emotion) @ weight).sum().backward()
    assert emotion.grad is not None
    along = (emotion.grad * emotion.detach()).sum(1)
    torch.testing.assert_close(along, torch.zeros(3), atol=1e-5, rtol=0)


def test_zero_has_a_gradient() -> None:
    emotion = torch.zeros(1, 4, requires_grad=True)
    (EmotionBound(bound="rms")(emotion).sum() + norm_penalty(emotion).total).backward()
    assert emotion.grad is not None
    assert torch.isfinite(emotion.grad).all()


def test_none_is_the_identity() -> None:
    emotion = torch.randn(2, 3)
    assert EmotionBound()(emotion) is emotion


def test_it_is_computed_in_float32() -> None:
    emotion = torch.full((1, 4), 300.0, dtype=torch.float16)  # Whose square overflows.
    bounded = EmotionBound(bound="rms")(emotion)
    assert bounded.dtype == torch.float16
    assert torch.equal(bounded, torch.ones(1, 4, dtype=torch.float16))


def test_calibration_keeps_the_scale_of_a_trained_model_and_is_saved() -> None:
    emotion = torch.randn(64, 32) * 7.0
    bound = EmotionBound(bound="rms")
    bound.calibrate(emotion)
    rms = bound(emotion).square().mean(1).sqrt()
    torch.testing.assert_close(rms.mean(), emotion.square().mean(1).sqrt().mean())
    other = EmotionBound(bound="rms")
    other.load_state_dict(bound.state_dict())
    assert torch.equal(other(emotion), bound(emotion))


def centred(dim: int = 8) -> EmotionBound:
    made = EmotionBound(bound="centred")
    made.setup(dim=dim)
    return made


def test_what_all_vectors_share_is_taken_away() -> None:
    """A small difference beside a large common part comes out as large as a difference alone."""
    generator = torch.Generator().manual_seed(0)
    difference = torch.randn(400, 8, generator=generator)
    bound = centred()
    bound(100.0 + difference)
    bound.after_step(finite=True)
    alone = EmotionBound(bound="rms")(difference - difference.mean(0))
    torch.testing.assert_close(bound.eval()(100.0 + difference), alone, atol=1e-3, rtol=1e-3)


def test_the_mean_moves_once_a_step_whatever_the_micro_batches() -> None:
    emotion = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    whole, parts = centred(), centred()
    for step in range(3):
        whole(emotion + step)
        for part in emotion.split(5):
            parts(part + step)
        whole.after_step(finite=True)
        parts.after_step(finite=True)
        torch.testing.assert_close(parts.centre, whole.centre)
    torch.testing.assert_close(whole.centre, emotion.mean(0) + 1.0)


def test_no_gradient_moves_all_vectors_alike() -> None:
    """What rows share would outrun the running mean; what sets them apart passes unchanged."""
    generator = torch.Generator().manual_seed(2)
    emotion = torch.randn(5, 8, generator=generator).requires_grad_()
    weight = torch.randn(5, 8, generator=generator)
    bound = centred()
    (bound(emotion) * weight).sum().backward()
    assert emotion.grad is not None
    plain = emotion.detach().clone().requires_grad_()
    (EmotionBound(bound="rms")(plain) * weight).sum().backward()
    assert plain.grad is not None
    assert plain.grad.mean(0).abs().max() > 0.1
    torch.testing.assert_close(emotion.grad, plain.grad - plain.grad.mean(0))


def test_stored_vectors_have_no_part_in_what_is_learnt() -> None:
    emotion = torch.randn(6, 8, generator=torch.Generator().manual_seed(4)).requires_grad_()
    heard = torch.tensor([True, False, True, False, True, False])
    weight = torch.randn(6, 8) * ~heard.unsqueeze(1)
    bound = centred()
    (bound(emotion, heard=heard) * weight).sum().backward()
    assert emotion.grad is not None
    assert emotion.grad[~heard].any()
    assert not emotion.grad[heard].any()
    bound.after_step(finite=True)
    torch.testing.assert_close(bound.centre, emotion.detach()[heard].mean(0))


def test_the_mean_is_known_before_the_model_learns() -> None:
    """While only classifiers learn, vectors are computed without gradient."""
    emotion = torch.randn(12, 8) + 3.0
    bound = centred()
    with torch.no_grad():
        bound(emotion)
    bound.after_step(finite=True)
    torch.testing.assert_close(bound.centre, emotion.mean(0))


def test_a_micro_batch_of_one_row_learns_all_the_same() -> None:
    emotion = torch.randn(1, 8, requires_grad=True)
    (centred()(emotion) * torch.randn(8)).sum().backward()
    assert emotion.grad is not None
    assert emotion.grad.any()


def test_evaluation_and_skipped_steps_leave_the_mean_alone() -> None:
    emotion = torch.randn(12, 8)
    bound = centred()
    bound(emotion)
    bound.after_step(finite=False)
    bound.eval()(emotion)
    bound.after_step(finite=True)
    assert not bound.centre.any()
    bound.train()(emotion)
    bound.after_step(finite=True)
    again = centred()
    again.load_state_dict(bound.state_dict())
    assert torch.equal(again.eval()(emotion), bound.eval()(emotion))


def test_the_penalty_is_of_the_excess_alone() -> None:
    emotion = torch.stack([torch.full((4,), 0.5), torch.full((4,), 3.0)])
    loss = norm_penalty(emotion, free=1.0)
    assert float(loss.total) == pytest.approx(4.0)
    assert loss.count == 2.0
    assert float(norm_penalty(emotion).total) == pytest.approx(0.25 + 9.0)


def test_unknown_bounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="no bound 'rsm'; did you mean 'rms'"):
        EmotionBound(bound="rsm")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="target must be positive"):
        EmotionBound(target=0.0)
