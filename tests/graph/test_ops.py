"""Operators against dense formulas: values, gradients, second gradients, odd shapes and refusals."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.sparse import SparseMatrix

pytestmark = pytest.mark.usefixtures("either_path")


def random_matrix(rows: int, columns: int, density: float, seed: int, dtype=torch.float64) -> SparseMatrix:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, columns, generator=generator, dtype=dtype)
    return SparseMatrix.from_dense(dense * (torch.rand(rows, columns, generator=generator) < density))


def randn(*shape: int, seed: int = 1, grad: bool = False, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_(
        grad
    )


def segment_softmax(matrix: SparseMatrix, scores: torch.Tensor) -> torch.Tensor:
    """Row by row, with torch.softmax: the obvious twin of edge_softmax."""
    crow = matrix.crow.tolist()
    rows = [torch.softmax(scores[a:b], 0) for a, b in pairwise(crow)]
    return torch.cat(rows) if rows else scores


SHAPES = [(7, 5, 0.4), (5, 7, 0.4), (1, 1, 1.0), (6, 6, 0.0), (1, 9, 0.5), (33, 17, 0.1)]


@pytest.mark.parametrize(("rows", "columns", "density"), SHAPES)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_spmm_equals_dense_product(rows: int, columns: int, density: float, width: int) -> None:
    matrix = random_matrix(rows, columns, density, seed=0)
    x = randn(columns, width)
    torch.testing.assert_close(ops.spmm(matrix, x), matrix.to_dense() @ x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("rows", "columns", "density"), [(7, 5, 0.4), (4, 6, 0.0)])
def test_spmm_gradients_to_values_and_dense(rows: int, columns: int, density: float) -> None:
    pattern = random_matrix(rows, columns, density, seed=2).pattern
    values = randn(pattern.nnz, seed=3, grad=True)
    x = randn(columns, 3, seed=4, grad=True)

    def product(v: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return ops.spmm(SparseMatrix(pattern, v), d)

    assert torch.autograd.gradcheck(product, (values, x))
    assert torch.autograd.gradgradcheck(product, (values, x))


def test_values_gradient_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = random_matrix(9, 9, 0.5, seed=5).pattern
    left, right = randn(9, 4, seed=6), randn(9, 4, seed=7)
    whole = ops._sampled_product(pattern, left, right)
    monkeypatch.setattr(ops, "_BLOCK_NUMBERS", 12)  # three entries a block
    assert torch.equal(ops._sampled_product(pattern, left, right), whole)
    expected = (left[pattern.row.long()] * right[pattern.col.long()]).sum(1, keepdim=True)
    torch.testing.assert_close(whole, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    # 4096 ones: a running float16 sum stops at 2048, a bfloat16 one at 256.
    matrix = SparseMatrix.from_dense(torch.ones(1, 4096)).to(dtype=dtype)
    assert ops.spmm(matrix, torch.ones(4096, 1, dtype=dtype)).item() == 4096.0


def test_non_contiguous_and_empty_inputs() -> None:
    matrix = random_matrix(5, 6, 0.5, seed=8)
    x = randn(3, 6, seed=9).t()
    assert not x.is_contiguous()
    torch.testing.assert_close(ops.spmm(matrix, x), matrix.to_dense() @ x)
    assert ops.spmm(matrix, torch.zeros(6, 0, dtype=torch.float64)).shape == (5, 0)
    nothing = SparseMatrix.from_dense(torch.zeros(0, 0, dtype=torch.float64))
    assert ops.spmm(nothing, torch.zeros(0, 2, dtype=torch.float64)).shape == (0, 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 2), "expected a \\(5, d\\)"),
        (torch.zeros(5), "expected a \\(5, d\\)"),
        (torch.zeros(5, 2), "float64.*float32"),
    ],
)
def test_spmm_refuses_what_does_not_fit(x: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ops.spmm(random_matrix(3, 5, 0.5, seed=0), x)


@pytest.mark.parametrize(("rows", "columns", "density"), SHAPES)
@pytest.mark.parametrize("heads", [1, 3])
def test_edge_softmax_equals_row_by_row_softmax(rows: int, columns: int, density: float, heads: int) -> None:
    matrix = random_matrix(rows, columns, density, seed=1)
    scores = 30 * randn(matrix.nnz, heads, seed=2)
    torch.testing.assert_close(
        ops.edge_softmax(matrix, scores), segment_softmax(matrix, scores), rtol=1e-12, atol=1e-15
    )


def test_edge_softmax_gradients() -> None:
    matrix = random_matrix(5, 4, 0.5, seed=3)
    scores = randn(matrix.nnz, 2, seed=4, grad=True)
    assert torch.autograd.gradcheck(lambda s: ops.edge_softmax(matrix, s), (scores,))
    assert torch.autograd.gradgradcheck(lambda s: ops.edge_softmax(matrix, s), (scores,))


def test_edge_softmax_survives_huge_scores_and_far_apart_rows() -> None:
    matrix = SparseMatrix.from_dense(torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    out = ops.edge_softmax(matrix, torch.tensor([[3e38], [3e38], [-3e38], [-3e38]]))
    assert out.flatten().tolist() == [0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("rows", "columns", "density"), SHAPES)
def test_edge_sum_gathers_both_ends_and_its_gradients_scatter(
    rows: int, columns: int, density: float
) -> None:
    matrix = random_matrix(rows, columns, density, seed=1)
    left, right = randn(rows, 2, seed=2, grad=True), randn(columns, 2, seed=3, grad=True)
    out = ops.edge_sum(matrix, left, right)
    assert torch.equal(out, left[matrix.row.long()] + right[matrix.col.long()])
    assert torch.autograd.gradcheck(lambda a, b: ops.edge_sum(matrix, a, b), (left, right))
    assert torch.autograd.gradgradcheck(lambda a, b: ops.edge_sum(matrix, a, b) ** 2, (left, right))
    with pytest.raises(UserError, match="scores"):
        ops.edge_sum(matrix, left[:, :1], right)


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_attention_aggregate_equals_head_by_head(heads: int) -> None:
    matrix = random_matrix(6, 4, 0.5, seed=5)
    coefficients = randn(matrix.nnz, heads, seed=6)
    values = randn(4, heads, 3, seed=7)
    expected = torch.stack(
        [matrix.with_values(coefficients[:, h]).to_dense() @ values[:, h] for h in range(heads)], dim=1
    )
    torch.testing.assert_close(ops.attention_aggregate(matrix, coefficients, values), expected)


def test_attention_aggregate_gradients() -> None:
    matrix = random_matrix(4, 5, 0.5, seed=8)
    coefficients = randn(matrix.nnz, 2, seed=9, grad=True)
    values = randn(5, 2, 3, seed=10, grad=True)
    assert torch.autograd.gradcheck(
        lambda c, v: ops.attention_aggregate(matrix, c, v), (coefficients, values)
    )
    assert torch.autograd.gradgradcheck(
        lambda c, v: ops.attention_aggregate(matrix, c, v), (coefficients, values)
    )


def test_attention_shapes_are_checked() -> None:
    matrix = random_matrix(4, 5, 0.5, seed=8)
    with pytest.raises(UserError, match="expected scores"):
        ops.edge_softmax(matrix, torch.zeros(matrix.nnz + 1, 2))
    with pytest.raises(UserError, match="expected values"):
        ops.attention_aggregate(matrix, torch.zeros(matrix.nnz, 2), torch.zeros(4, 2, 3))
    with pytest.raises(UserError, match="expected coefficients"):
        ops.attention_aggregate(matrix, torch.zeros(matrix.nnz, 1), torch.zeros(5, 2, 3))


def test_propagate_is_the_matrix_power() -> None:
    matrix = random_matrix(6, 6, 0.4, seed=11)
    x = randn(6, 2, seed=12)
    power = torch.linalg.matrix_power(matrix.to_dense(), 5)
    torch.testing.assert_close(ops.propagate(matrix, x, 5), power @ x)
    assert ops.propagate(matrix, x, 0) is x
    with pytest.raises(UserError, match="steps >= 0"):
        ops.propagate(matrix, x, -1)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_stated_share_and_the_mean(p: float) -> None:
    torch.manual_seed(0)
    n = 200_000
    out = ops.dropout(torch.ones(n), p, training=True)
    kept = int((out != 0).sum())
    # Binomial(n, 1 - p): five standard deviations are passed by chance once in 1.7 million runs; the seed is fixed.
    assert abs(kept - n * (1 - p)) < 5 * (n * p * (1 - p)) ** 0.5
    torch.testing.assert_close(out[out != 0], torch.full((kept,), 1 / (1 - p)))


def test_dropout_is_off_in_evaluation_and_refuses_bad_probabilities() -> None:
    x = torch.ones(5)
    assert ops.dropout(x, 0.5, training=False) is x
    for p in (1.0, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"\[0, 1\)"):
            ops.dropout(x, p, training=True)


def test_sparse_feature_dropout_touches_stored_values_only() -> None:
    torch.manual_seed(0)
    x = random_matrix(50, 40, 0.2, seed=13, dtype=torch.float32)
    dropped = ops.feature_dropout(x, 0.5, training=True)
    assert isinstance(dropped, SparseMatrix)
    assert dropped.pattern is x.pattern
    kept = dropped.values != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert torch.equal(dropped.values[kept], 2 * x.values[kept])
    assert ops.feature_dropout(x, 0.5, training=False) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_propagation_of_sparse_features_equals_that_of_dense_ones(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(9, 9, generator=generator) * (torch.rand(9, 9, generator=generator) < 0.4)
    x = torch.randn(9, 4, generator=generator) * (torch.rand(9, 4, generator=generator) < 0.5)
    m, features = (SparseMatrix.from_dense(t).to(dtype=dtype) for t in (dense, x))
    tolerance = {} if dtype != torch.bfloat16 else {"rtol": 0.1, "atol": 0.1}
    for steps in (0, 1, 3):
        expected = torch.linalg.matrix_power(dense.double(), steps) @ x.double()
        out = ops.propagate(m, features, steps)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


def test_propagation_of_sparse_features_is_differentiable_in_both() -> None:
    generator = torch.Generator().manual_seed(3)
    m = SparseMatrix.from_dense(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    x = SparseMatrix.from_dense(torch.randn(5, 3, generator=generator, dtype=torch.float64))
    values = [t.values.clone().requires_grad_() for t in (m, x)]
    assert torch.autograd.gradcheck(lambda a, b: ops.propagate(m.with_values(a), x.with_values(b), 2), values)


def test_propagation_refuses_features_of_other_nodes() -> None:
    m, x = SparseMatrix.from_dense(torch.eye(3)), SparseMatrix.from_dense(torch.ones(4, 2))
    with pytest.raises(UserError, match="to multiply with"):
        ops.propagate(m, x, 1)


@pytest.mark.parametrize("activation", ["tanh", None, "RELU"])
def test_activations_of_another_name_are_refused(activation: object) -> None:
    with pytest.raises(UserError, match="expected the activation 'relu' or 'elu', got"):
        ops.activation_dropout(torch.ones(2), activation, 0.0, training=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("training", [False, True])
def test_probabilities_are_checked_for_sparse_features_too(p: float, training: bool) -> None:
    with pytest.raises(UserError, match="dropout probability"):
        ops.feature_dropout(SparseMatrix.from_dense(torch.eye(2)), p, training)


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [((2, 3), (1, 2), None), ((2, 3), (3,), None), ((), (1, 2), None), ((2, 3), (4, 3), (1,))],
)
def test_linear_refuses_what_does_not_fit(x: tuple[int, ...], weight: tuple[int, ...], bias: object) -> None:
    with pytest.raises(UserError, match=r"expected x \(n, in\), weight \(out, in\)"):
        ops.linear(torch.ones(x), torch.ones(weight), None if bias is None else torch.ones(bias))
