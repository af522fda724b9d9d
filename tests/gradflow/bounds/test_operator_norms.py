"""Spectral norms from above, against dense decompositions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from layerlab.gradflow.bounds import operator_norms
from layerlab.gradflow.bounds.arguments import copies_in_view
from layerlab.gradflow.bounds.operator_norms import gram_norms, largest_norm, matrix_norm, sparse_norm


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (1, 5), (5, 1), (0, 3)])
def test_matrix_norm_is_exact(shape: tuple[int, int]) -> None:
    matrix = draw(*shape)
    expected = float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0
    assert matrix_norm(matrix) == pytest.approx(expected, rel=1e-12)
    assert matrix_norm(matrix.T) == pytest.approx(expected, rel=1e-12)


def test_a_kept_norm_follows_the_content() -> None:
    matrix = draw(4, 4)
    first = matrix_norm(matrix)
    matrix *= 2
    assert matrix_norm(matrix) == pytest.approx(2 * first)
    assert matrix_norm(matrix.reshape(2, 8)) != pytest.approx(2 * first)


def test_beyond_the_exact_size_it_is_a_close_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_norms, "EXACT_UP_TO", 300)
    matrix = draw(400, 500, seed=3)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact <= matrix_norm(matrix) <= 1.02 * exact


def test_not_finite_is_infinite() -> None:
    assert matrix_norm(torch.tensor([[math.nan]])) == math.inf
    assert largest_norm(torch.tensor([[math.inf]])) == math.inf


def test_batches() -> None:
    matrices = draw(3, 4, 6)
    exact = torch.linalg.matrix_norm(matrices, 2)
    assert torch.allclose(gram_norms(matrices), exact, rtol=1e-12)
    assert largest_norm(matrices) == pytest.approx(float(exact.max()), rel=1e-12)


def test_large_batches_are_bounded() -> None:
    matrices = draw(2, 300, 310).abs()
    exact = float(torch.linalg.matrix_norm(matrices, 2).max())
    assert exact <= largest_norm(matrices) <= 1.15 * exact


def test_zero_sized_batches() -> None:
    assert largest_norm(torch.zeros(0, 3, 3)) == 0.0


@pytest.mark.parametrize("size", [30, 400])
@pytest.mark.parametrize("signed", [False, True])
def test_sparse_norm(size: int, signed: bool) -> None:
    generator = torch.Generator().manual_seed(size)
    rows = torch.randint(0, size, (6 * size,), generator=generator)
    columns = torch.randint(0, size + 20, (6 * size,), generator=generator)
    values = torch.rand(6 * size, dtype=torch.float64, generator=generator)
    values = values - 0.5 if signed else values
    matrix = torch.zeros(size, size + 20, dtype=torch.float64)
    matrix.index_put_((rows, columns), values, accumulate=True)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    found = sparse_norm(rows, columns, values, (size, size + 20))
    assert exact <= found * (1 + 1e-12)
    if not signed:
        assert found <= 1.001 * exact


def test_sparse_norm_of_separate_parts_and_empty_columns() -> None:
    """The power iterates vanish on the weaker part; the bound must not."""
    size = 600
    index = torch.arange(size - 1)
    values = torch.ones(size - 1, dtype=torch.float64)
    values[0] = 3.0
    assert 3.0 <= sparse_norm(index, index, values, (size, size)) <= 3.001
    assert sparse_norm(index[:0], index[:0], values[:0], (3, 3)) == 0.0


@pytest.mark.parametrize(
    ("view", "copies"),
    [
        (lambda x: x, 1),
        (lambda x: x[:, ::2].T, 1),
        (lambda x: x[:1].expand(5, 6), 5),
        (lambda x: x[:1, :1].expand(2, 3), 6),
        (lambda x: x.unfold(1, 3, 1), 3),
        (lambda x: x.unfold(1, 3, 2), 2),
        (lambda x: x.unfold(1, 2, 3), 1),
        (lambda x: x.unfold(0, 2, 1).unfold(1, 3, 1), 6),
        (lambda x: x[0, 0], 1),
    ],
)
def test_copies_in_a_view(view: object, copies: int) -> None:
    assert callable(view)
    x = torch.arange(24.0).reshape(4, 6)
    seen = view(x)
    assert copies_in_view(seen) == copies == int(seen.flatten().long().bincount().max())
