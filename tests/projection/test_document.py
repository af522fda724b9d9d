from __future__ import annotations

import pytest
import torch

from layerlab.errors import UserError
from layerlab.projection.bounds import document_count
from layerlab.projection.document import _distortion, document_codebook


@pytest.mark.parametrize(
    ("dim", "delta", "seed"), [(1000, 0.5, 0), (1000, 0.5, 1), (500, 0.9, 0), (1500, 0.6, 3)]
)
def test_the_construction_of_the_proof_keeps_its_promise(dim: int, delta: float, seed: int) -> None:
    found = document_codebook(dim, delta, seed=seed)
    assert len(found.vectors) == found.promised == document_count(dim, delta)
    assert found.epsilon == pytest.approx(delta / 3)
    assert found.distortion <= found.epsilon
    torch.testing.assert_close(found.vectors.square().sum(1), torch.ones(found.promised, dtype=torch.float64))
    cosines = (found.vectors @ found.vectors.T).fill_diagonal_(0.0).abs()
    assert float(cosines.max()) <= 2 * found.epsilon / (1 - found.epsilon) < delta


def test_dividing_by_the_squared_norm_gives_no_unit_vectors() -> None:
    found = document_codebook(1000, 0.5)
    norms = torch.linalg.vector_norm(found.as_written, dim=1)
    assert float((norms - 1).abs().max()) > 0.01
    torch.testing.assert_close(found.as_written / norms[:, None], found.vectors)


def test_a_map_that_distorts_too_much_is_drawn_again() -> None:
    # 31 points, 500 pairs: about every third map of dimension 1000 keeps them within a sixth.
    draws = [document_codebook(1000, 0.5, seed=seed).draws for seed in range(6)]
    assert max(draws) > 1
    first = torch.randn(31, 1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert _distortion(first / 1000**0.5) > 0.5 / 3


def test_the_distortion_is_of_all_distances() -> None:
    points = torch.randn(2500, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 40**0.5
    distances = torch.cdist(points, points).square()[*torch.triu_indices(2500, 2500, 1)]
    expected = max(float((distances / 2 - 1).abs().max()), float((points.square().sum(1) - 1).abs().max()))
    assert _distortion(points) == pytest.approx(expected, rel=1e-9)


def test_the_distance_to_the_origin_counts() -> None:
    points = 2**0.5 * torch.eye(3, dtype=torch.float64)[:1]
    assert _distortion(points) == pytest.approx(1.0)


def test_fewer_vectors_than_promised_may_be_wanted() -> None:
    assert document_codebook(1000, 0.5, 10).vectors.shape == (10, 1000)


@pytest.mark.parametrize(
    ("dim", "delta", "count", "words"),
    [
        (
            1000,
            0.1,
            None,
            "promises 0 vectors of coherence 0.1 in dimension 1,000, and at least 2 are wanted",
        ),
        (1000, 0.5, 32, "promises 31 vectors .* and 32 are wanted; it takes a dimension of 1,007"),
        (1000, 0.5, 1, "count 1"),
        (1000, 0.5, 0, "count 0"),
        (1000, 1.0, None, "between 0 and 1"),
        (1000, 0.0, None, "between 0 and 1"),
        (0, 0.5, None, "dimension of at least 1"),
    ],
)
def test_what_the_theorem_does_not_promise_is_refused(
    dim: int, delta: float, count: int | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        document_codebook(dim, delta, count)


def test_the_dimension_named_is_enough() -> None:
    assert document_count(1007, 0.5) >= 32 > document_count(1006, 0.5)
