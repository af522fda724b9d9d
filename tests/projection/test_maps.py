"""The laws from which maps are drawn, and their products on all kinds of input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats
from scipy.linalg import hadamard as hadamard_matrix

from layerlab.errors import UserError
from layerlab.projection.maps import apply, draw

CASES = [("gaussian", 1 / 3), ("rademacher", 1 / 3), ("sparse", 1 / 3), ("sparse", 0.02), ("hadamard", 1 / 3)]


def as_matrix(drawn) -> np.ndarray:
    if drawn.matrix is None:
        size = 1 << (drawn.dim_in - 1).bit_length()
        return hadamard_matrix(size)[drawn.rows, : drawn.dim_in] * drawn.signs / drawn.dim_out**0.5
    return drawn.matrix.toarray() if sparse.issparse(drawn.matrix) else drawn.matrix


@pytest.mark.parametrize(("kind", "density"), CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_applying_is_the_product_for_dense_and_sparse_rows(kind: str, density: float, dtype: type) -> None:
    generator = np.random.default_rng(0)
    drawn = draw(kind, 300, 40, generator, density=density, dtype=dtype)
    x = generator.standard_normal((7, 300)) * (generator.random((7, 300)) < 0.2)
    x = x.astype(dtype)
    expected = x.astype(np.float64) @ as_matrix(drawn).astype(np.float64).T
    for given in (x, sparse.csr_array(x), sparse.csr_matrix(x), sparse.csc_array(x), np.asfortranarray(x)):
        found = apply(drawn, given)
        assert isinstance(found, np.ndarray)
        assert found.dtype == dtype
        assert np.allclose(found, expected, atol=300 * np.finfo(dtype).eps * 4)


@pytest.mark.parametrize(("kind", "density"), CASES)
def test_squared_lengths_are_kept_in_the_mean(kind: str, density: float) -> None:
    x = np.random.default_rng(1).standard_normal(50)
    ratios = np.array(
        [
            (apply(draw(kind, 50, 8, np.random.default_rng(seed), density=density), x[None]) ** 2).sum()
            for seed in range(2_000)
        ]
    ) / (x @ x)
    assert abs(ratios.mean() - 1) < 5 * ratios.std() / 2_000**0.5


def test_the_entries_have_their_laws() -> None:
    generator = np.random.default_rng(2)
    gaussian = draw("gaussian", 200, 100, generator).matrix
    assert stats.kstest(gaussian.ravel() * 10, "norm").pvalue > 1e-4
    signs = draw("rademacher", 200, 100, generator).matrix
    assert np.allclose(np.abs(signs), 0.1, rtol=1e-15)
    assert stats.binomtest(int((signs > 0).sum()), signs.size).pvalue > 1e-4
    for density in (1 / 3, 0.01):
        entries = as_matrix(draw("sparse", 200, 100, generator, density=density)).ravel()
        others = entries[entries != 0]
        assert np.allclose(np.abs(others), (100 * density) ** -0.5)
        assert stats.binomtest(others.size, entries.size, density).pvalue > 1e-4
        assert stats.binomtest(int((others > 0).sum()), others.size).pvalue > 1e-4


def test_sparse_maps_are_stored_sparsely_where_it_pays_and_the_fast_one_without_a_matrix() -> None:
    generator = np.random.default_rng(0)
    assert sparse.issparse(draw("sparse", 5_000, 20, generator, density=0.01).matrix)
    assert isinstance(draw("sparse", 500, 20, generator).matrix, np.ndarray)
    fast = draw("hadamard", 100, 128, generator)
    assert fast.matrix is None
    assert fast.rows.tolist() == list(range(128))


def test_the_same_seed_gives_the_same_map_and_another_another() -> None:
    for kind, density in CASES:
        one, same, other = (
            as_matrix(draw(kind, 64, 8, np.random.default_rng(seed), density=density)) for seed in (0, 0, 1)
        )
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("fourier", 4, 2), {}, "a map among"),
        (("gaussian", 0, 2), {}, "at least 1"),
        (("gaussian", 4, 0), {}, "at least 1"),
        (("sparse", 4, 2), {"density": 0.0}, "density"),
        (("sparse", 4, 2), {"density": 1.5}, "density"),
        (("hadamard", 100, 129), {}, "has 128 rows"),
    ],
)
def test_refusals(arguments, options, words: str) -> None:
    with pytest.raises(UserError, match=words):
        draw(*arguments, np.random.default_rng(0), **options)
