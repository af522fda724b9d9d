"""SparseMatrix: conversions, transposes and the refusal of bad input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as scipy_sparse

from layerlab.errors import UserError
from layerlab.graph.sparse import SparseMatrix, _index_dtype

dense_matrices = st.tuples(st.integers(0, 6), st.integers(0, 6)).flatmap(
    lambda shape: st.lists(
        st.sampled_from([0.0, 0.0, 1.0, -2.5]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    ).map(lambda numbers: torch.tensor(numbers).reshape(shape))
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(dense_matrices)
def test_round_trips_and_transposes(dense: torch.Tensor) -> None:
    matrix = SparseMatrix.from_dense(dense)
    assert matrix.nnz == int((dense != 0).sum())
    assert torch.equal(matrix.to_dense(), dense)
    assert torch.equal(matrix.transpose().to_dense(), dense.t())
    assert torch.equal(matrix.transpose().transpose().values, matrix.values)
    assert matrix.transpose().transpose().pattern is matrix.pattern
    np.testing.assert_array_equal(matrix.to_scipy().toarray(), dense.numpy())
    for row in range(dense.shape[0]):
        columns = matrix.col[matrix.crow[row] : matrix.crow[row + 1]]
        assert (columns[1:] > columns[:-1]).all()


def test_transposed_values_carry_gradients() -> None:
    matrix = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [3.0, 4.0]]))
    values = matrix.values.clone().requires_grad_()
    matrix.with_values(values).transpose().to_dense()[1, 0].backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0, 0.0]


def test_per_head_pattern_is_the_interleaved_block_pattern() -> None:
    dense = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    matrix = SparseMatrix.from_dense(dense)
    spread, position = matrix.pattern.per_head(2)
    values = torch.arange(1.0, 2 * matrix.nnz + 1)
    got = SparseMatrix(spread, values[position]).to_dense()
    expected = torch.zeros(6, 6)
    for entry, (row, col) in enumerate(zip(matrix.row.tolist(), matrix.col.tolist(), strict=True)):
        for head in range(2):
            expected[2 * row + head, 2 * col + head] = values[2 * entry + head]
    assert torch.equal(got, expected)
    assert matrix.pattern.per_head(2)[0] is spread


def test_from_scipy_sums_duplicates_and_leaves_its_source_alone() -> None:
    source = scipy_sparse.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    matrix = SparseMatrix.from_scipy(source)
    assert matrix.values.tolist() == [3.0]
    assert source.nnz == 3
    csr = scipy_sparse.csr_array(np.eye(2))
    matrix = SparseMatrix.from_scipy(csr, torch.float64)
    csr.data[:] = 7.0
    assert matrix.values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.eye(2), "scipy sparse"),
        (scipy_sparse.csr_array(np.array([[1.0, np.nan]])), "row 0, column 1 is nan"),
        (scipy_sparse.csr_array(np.array([[1.0], [np.inf]])), "row 1, column 0 is inf"),
        (scipy_sparse.csr_array(np.array([[1j]])), "real numbers"),
    ],
)
def test_from_scipy_refuses(source: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SparseMatrix.from_scipy(source)


def test_values_are_checked() -> None:
    matrix = SparseMatrix.from_dense(torch.eye(2))
    with pytest.raises(UserError, match="expected 2 values"):
        matrix.with_values(torch.zeros(3))
    with pytest.raises(UserError, match="floating-point"):
        matrix.with_values(torch.zeros(2, dtype=torch.int64))


def test_wide_indices_where_int32_does_not_reach() -> None:
    assert _index_dtype(2**31 - 1, (5, 5)) is torch.int32
    assert _index_dtype(2**31, (5, 5)) is torch.int64
    assert _index_dtype(3, (5, 2**31)) is torch.int64


def test_pickle_keeps_content() -> None:
    matrix = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [3.0, 4.0]]))
    matrix.pattern.per_head(3)
    copy = pickle.loads(pickle.dumps(matrix))
    assert torch.equal(copy.to_dense(), matrix.to_dense())
    assert copy.pattern._heads == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_sparse_matrices(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for n, m, d in ((7, 5, 9), (1, 1, 1), (0, 3, 2), (3, 0, 2), (40, 30, 50)):
        left, right = (
            torch.randn(shape, generator=generator, dtype=dtype)
            * (torch.rand(shape, generator=generator) < 0.3)
            for shape in ((n, m), (m, d))
        )
        out = SparseMatrix.from_dense(left).product(SparseMatrix.from_dense(right))
        assert out.pattern.trusted
        assert (out.dtype, out.shape, out.crow.dtype) == (dtype, (n, d), torch.int32)
        torch.testing.assert_close(out.to_dense(), left @ right)
        rows = torch.repeat_interleave(torch.arange(n), (out.crow[1:] - out.crow[:-1]).long())
        keys = rows * d + out.col
        assert (keys[1:] > keys[:-1]).all()


def test_products_that_do_not_fit_are_refused() -> None:
    m = SparseMatrix.from_dense(torch.ones(2, 3))
    square = SparseMatrix.from_dense(torch.ones(3, 3))
    learned = square.with_values(square.values.clone().requires_grad_())
    others = (
        m,
        square.to(dtype=torch.float64),
        square.to(dtype=torch.float16),
        learned,
        square.to(device="meta"),
    )
    for other in others:
        with pytest.raises(UserError, match="without gradients"):
            m.product(other)
    for left in (learned, square.to(dtype=torch.float16)):
        with pytest.raises(UserError, match="without gradients"):
            left.product(left)


def test_a_transposed_pattern_outlives_what_it_was_made_of() -> None:
    matrix = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]]))
    other, order = matrix.pattern.transposed()
    back, inverse = other.transposed()
    assert back is matrix.pattern
    assert order[inverse].tolist() == [0, 1, 2]
    columns = matrix.pattern.col.tolist()
    del matrix, back
    again, _ = other.transposed()
    assert again.col.tolist() == columns


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_the_dtype_cannot_hold_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match=rf"row 1, column 0 is 1e\+300: expected finite values of {dtype}"):
        SparseMatrix.from_scipy(scipy_sparse.csr_array([[0.0, 1.0], [1e300, 0.0]]), dtype)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([-2], r"rows in 0 \.\.\. 2, got -2 to -2"),
        ([0, 3], r"rows in 0 \.\.\. 2, got 0 to 3"),
        ([0.9], "list of rows, got shape .* torch.float32"),
        ([True, False, True], "list of rows, got shape .* torch.bool"),
    ],
)
def test_rows_that_are_not_there_are_refused(index: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SparseMatrix.from_dense(torch.eye(3)).rows(torch.tensor(index))


def test_rows_are_asked_for_by_a_tensor() -> None:
    with pytest.raises(UserError, match="expected a tensor, got ndarray"):
        SparseMatrix.from_dense(torch.eye(3)).rows(np.array([0]))  # type: ignore[arg-type]
