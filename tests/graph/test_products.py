"""Many products with one matrix: the compiled ones against scipy's, sums that do not depend on threads."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from layerlab.errors import UserError
from layerlab.graph.products import Product, by_rows, room
from layerlab.lab import kernels


def _matrix() -> sp.csr_array:
    """37 x 29, some rows empty."""
    generator = np.random.default_rng(0)
    dense = generator.standard_normal((37, 29)) * (generator.random((37, 29)) < 0.3)
    dense[[0, 5, 36]] = 0.0
    return sp.csr_array(dense)


@pytest.mark.parametrize("shape", [(29,), (29, 1), (29, 3), (29, 16), (29, 24)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_product_is_that_of_the_dense_matrix(
    shape: tuple[int, ...], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.graph.products._COMPILED_FROM", 1 if compiled else 10**9)
    matrix, x = _matrix(), np.random.default_rng(1).standard_normal(shape)
    wanted = matrix.toarray() @ x
    product = Product(matrix)
    np.testing.assert_allclose(product(x), wanted, rtol=1e-13, atol=1e-14)
    out = np.full((37, *shape[1:]), np.nan)
    assert product(x, out) is out
    np.testing.assert_allclose(out, wanted, rtol=1e-13, atol=1e-14)


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.graph.products._COMPILED_FROM", 1)
    monkeypatch.setattr("layerlab.graph.products._ROWS", 5)
    monkeypatch.setattr("layerlab.lab.kernels.threads.SMALL", 0)
    matrix, x = _matrix(), np.random.default_rng(1).standard_normal((29, 8))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            y = Product(matrix)(x)
            found.append((y, by_rows(37, lambda at, y=y: (y[at] ** 2).sum(axis=0))))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found[0][1], (found[0][0] ** 2).sum(axis=0))


def test_a_column_out_of_range_is_refused_where_the_kernel_would_follow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("layerlab.graph.products._COMPILED_FROM", 1)
    matrix = _matrix()
    matrix.indices[3] = 29
    with pytest.raises(UserError, match=r"columns in 0 \.\.\. 28"):
        Product(matrix)


def test_without_kernels_scipy_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.graph.products._COMPILED_FROM", 1)
    matrix, x = _matrix(), np.ones((29, 2))
    with kernels.disabled():
        np.testing.assert_array_equal(Product(matrix)(x), matrix @ x)


def test_stretches_without_a_row_add_up_to_nothing() -> None:
    assert by_rows(0, lambda at: room(0, 3)[at].sum(axis=0)).tolist() == [0, 0, 0]
