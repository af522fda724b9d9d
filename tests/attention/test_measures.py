"""Measures of attention weights, against what is known of simple matrices and against plain sums."""

from __future__ import annotations

import math

import pytest
import torch

from layerlab.attention import measures


def stochastic(n: int = 12, m: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, m, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def test_entropy_lies_between_one_key_and_all() -> None:
    p = stochastic()
    assert bool((measures.entropy(p) < math.log(9)).all()) and bool((measures.entropy(p) > 0).all())
    uniform = torch.full((3, 8), 1 / 8)
    torch.testing.assert_close(measures.entropy(uniform), torch.full((3,), math.log(8)))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_ranks_of_a_projection(k: int) -> None:
    q, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(k), dtype=torch.float64))
    sigma = torch.linalg.svdvals(q[:, :k] @ q[:, :k].T)
    assert float(measures.effective_rank(sigma)) == pytest.approx(k, rel=1e-9)
    assert int(measures.numerical_rank(sigma)) == k


def test_effective_rank_is_never_above_the_rank_nor_below_one() -> None:
    sigma = torch.linalg.svdvals(stochastic())
    found = measures.effective_rank(sigma)
    assert bool((found >= 1).all()) and bool((found <= 9).all())
    shares = sigma[0] / sigma[0].sum()
    assert float(found[0]) == pytest.approx(math.exp(-sum(float(s) * math.log(float(s)) for s in shares)))


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99, 1.0])
def test_numerical_rank_is_the_first_that_suffices(energy: float) -> None:
    sigma = torch.linalg.svdvals(stochastic())[0]
    k = int(measures.numerical_rank(sigma, energy))
    squares = sigma.square()
    assert float(squares[:k].sum()) >= energy * float(squares.sum()) * (1 - 1e-9)
    assert float(squares[: k - 1].sum()) < energy * float(squares.sum())


def test_energy_that_is_reached_exactly_suffices() -> None:
    # Three of four equal squares are 75 per cent, and one of two a half.
    assert int(measures.numerical_rank(torch.ones(4), 0.75)) == 3
    assert int(measures.numerical_rank(torch.ones(2), 0.5)) == 1


def test_zeros_have_rank_zero() -> None:
    zero = torch.zeros(4)
    assert (int(measures.numerical_rank(zero)), float(measures.effective_rank(zero))) == (0, 0.0)
    assert measures.eckart_young(zero, [1]).tolist() == [0.0]
    assert measures.output_floor(torch.zeros(3, 3), torch.ones(3, 1), [1]).tolist() == [0.0]


def test_floors_are_those_of_the_truncated_svd() -> None:
    p, v = stochastic(), torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ranks = [1, 2, 4, 9, 100]
    u, s, w = torch.linalg.svd(p, full_matrices=False)
    plain, output = [], []
    for k in ranks:
        best = u[..., :k] * s[..., None, :k] @ w[..., :k, :]
        plain.append((p - best).norm(dim=(1, 2)) / p.norm(dim=(1, 2)))
        output.append((p @ v - best @ v).norm(dim=(1, 2)) / (p @ v).norm(dim=(1, 2)))
    torch.testing.assert_close(measures.eckart_young(s, ranks), torch.stack(plain, -1), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(
        measures.output_floor(p, v, ranks), torch.stack(output, -1), atol=1e-12, rtol=1e-9
    )


def test_small_floors_keep_their_digits() -> None:
    sigma = torch.tensor([1.0, 1e-6, 1e-9], dtype=torch.float64)
    assert measures.eckart_young(sigma, [1, 2]).tolist() == pytest.approx([1e-6, 1e-9], rel=1e-5)


def test_a_causal_softmax_has_full_rank() -> None:
    scores = torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = scores.masked_fill(torch.ones(16, 16).triu(1) == 1, -math.inf).softmax(-1)
    assert int(torch.linalg.matrix_rank(p)) == 16
    assert int(measures.numerical_rank(torch.linalg.svdvals(p))) < 16


def test_locality_and_sink_are_plain_sums() -> None:
    p = stochastic(9, 9)[0]
    pairs = [(i, j) for i in range(9) for j in range(9)]
    far = sum(float(p[i, j]) * abs(i - j) for i, j in pairs) / 9
    near = sum(float(p[i, j]) for i, j in pairs if abs(i - j) <= 2) / 9
    assert float(measures.distance(p)) == pytest.approx(far)
    assert float(measures.within(p, 2)) == pytest.approx(near)
    assert float(measures.sink(p)) == pytest.approx(float(p[:, 0].sum()) / 9)


def test_rows_without_a_key_do_not_count() -> None:
    p = stochastic(6, 6)[0]
    p[0] = 0
    assert float(measures.sink(p)) == pytest.approx(float(p[:, 0].sum()) / 5)


def test_a_few_singular_vectors_suffice_for_low_ranks() -> None:
    p, v = stochastic(), torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = torch.linalg.svd(p, full_matrices=False).U[..., :4]
    torch.testing.assert_close(measures.output_floor(p, v, [1, 4], u), measures.output_floor(p, v, [1, 4]))


def test_a_block_of_rows_knows_its_place() -> None:
    p = stochastic(9, 9)[0]
    blocks = [(p[:4], 0), (p[4:], 4)]
    whole = sum(float(measures.distance(rows, first)) * len(rows) for rows, first in blocks) / 9
    assert whole == pytest.approx(float(measures.distance(p)))
    near = sum(float(measures.within(rows, 1, first)) * len(rows) for rows, first in blocks) / 9
    assert near == pytest.approx(float(measures.within(p, 1)))
