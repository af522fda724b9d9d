from __future__ import annotations

import math

import numpy as np
import pytest

from layerlab.projection.inspection.theory import Field, share, tail, typical_coherence


def cosines(dim: int, pairs: int, field: Field) -> np.ndarray:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, pairs, dim))
    if field == "complex":
        x, y = x + 1j * rng.standard_normal((pairs, dim)), y + 1j * rng.standard_normal((pairs, dim))
    products = (x * y.conj()).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    return np.abs(products) if field == "complex" else products


@pytest.mark.parametrize("field", ["real", "complex"])
@pytest.mark.parametrize("dim", [2, 3, 8, 50])
def test_shares_are_those_of_random_pairs(dim: int, field: Field) -> None:
    pairs = 40_000
    found = cosines(dim, pairs, field)
    edges = np.linspace(0 if field == "complex" else -1, 1, 21)
    counts, _ = np.histogram(found, edges)
    expected = share(edges, dim, field)
    assert expected.sum() == pytest.approx(1, abs=1e-12)
    spread = np.sqrt(pairs * expected * (1 - expected)) + 1
    assert np.all(np.abs(counts - pairs * expected) < 5 * spread)


def test_tails_keep_their_digits_where_they_are_small() -> None:
    assert float(tail(0.9, 400)) == pytest.approx(2 * 10**-147.11, rel=0.9)
    assert 0 < float(tail(0.95, 200)) < 1e-90
    assert float(tail(0.0, 10)) == 1.0
    assert float(tail(1.0, 10)) == 0.0


@pytest.mark.parametrize("field", ["real", "complex"])
def test_every_second_random_codebook_exceeds_the_typical_coherence(field: Field) -> None:
    rng = np.random.default_rng(1)
    dim, count, above = 12, 40, 0
    typical = typical_coherence(dim, count, field)
    for _ in range(200):
        x = rng.standard_normal((count, dim)) + (
            1j * rng.standard_normal((count, dim)) if field == "complex" else 0
        )
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        gram = np.abs(x @ x.conj().T)
        np.fill_diagonal(gram, 0)
        above += gram.max() > typical
    assert abs(above - 100) < 5 * math.sqrt(50)


def test_the_typical_coherence_of_very_many_vectors_is_found() -> None:
    assert 0.99 < typical_coherence(2, 10**6) <= 1.0
    assert 0.2 < typical_coherence(1000, 10**9) < 0.3
    assert typical_coherence(1000, 2) < 0.05
