from __future__ import annotations

import torch

from kernels.quantize.similarity import project, unit_vectors


def test_unit_vectors_are_of_length_1_at_any_scale() -> None:
    vectors = torch.tensor([[3.0, 4.0], [3e-320, 4e-320], [3e300, 4e300]], dtype=torch.float64)
    expected = torch.tensor([0.6, 0.8], dtype=torch.float64).expand(3, 2)
    torch.testing.assert_close(unit_vectors(vectors), expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(unit_vectors(vectors[::2]), expected[::2], rtol=1e-15, atol=0)


def test_a_zero_vector_stays_zero_and_one_without_direction_becomes_nan() -> None:
    vectors = torch.tensor([[0.0, 0.0], [torch.inf, 1.0], [torch.nan, 1.0]])
    zero, infinite, undefined = unit_vectors(vectors)
    assert zero.tolist() == [0.0, 0.0]
    assert infinite.isnan().any()
    assert undefined.isnan().any()


def test_each_book_has_its_own_projection() -> None:
    features, projection = torch.randn(5, 7), torch.randn(3, 7, 4)
    points = project(features, projection)
    assert points.shape == (5, 3, 4)
    for book in range(3):
        expected = unit_vectors(features.double() @ projection[book].double())
        torch.testing.assert_close(points[:, book], expected)
