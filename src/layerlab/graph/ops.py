"""Public operators on sparse matrices: products, propagation, edge softmax, aggregation, activation, dropout.

float32 and float64 on a CPU go to the fused kernels of `layerlab.graph.kernels`. The rest of this file is plain torch
and works on any device and dtype; both are twice differentiable. No operator builds a tensor of size entries x heads x
features: in plain torch, products for several heads run as one sparse product over a pattern that is spread over the
heads (`Pattern.per_head`), and gradients with respect to the values are formed in blocks of entries.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.kernels import operators
from layerlab.graph.kernels.operators import ELU, NONE, RELU
from layerlab.graph.sparse import Pattern, SparseMatrix, expect_tensors
from layerlab.lab import kernels

# Numbers per block of a values gradient: 1/2 MB of float32 stays in the cache and is reused by the allocator, while
# a whole entries x features tensor is paged in anew at every step.
_BLOCK_NUMBERS = 1 << 17
_CODES = {"relu": RELU, "elu": ELU}


def _product(pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
    rows, columns = pattern.shape
    if pattern.nnz == 0 or dense.shape[1] == 0 or dense.is_meta:
        return dense.new_zeros(rows, dense.shape[1])
    if dense.device.type == "cpu" and dense.dtype in (torch.float16, torch.bfloat16):
        # CPUs have no half-precision sparse product; float32 sums are also the better ones.
        return _product(pattern, values.float(), dense.float()).to(dense.dtype)
    matrix = torch.sparse_csr_tensor(
        pattern.crow, pattern.col, values, (rows, columns), check_invariants=False
    )
    return matrix @ dense.contiguous()


def _sampled_product(pattern: Pattern, left: Tensor, right: Tensor, heads: int = 1) -> Tensor:
    """``out[e, h] = left[row[e], h] . right[col[e], h]``: what a product's values receive as gradient.

    ``left`` and ``right`` are ``(n, heads * d)``; the result is ``(nnz, heads)``.
    """
    width = left.shape[1]
    block = max(1, _BLOCK_NUMBERS // max(1, width))
    # The sum over a head's features is a product with ones, from the left: a reduction over a short axis is 30 times
    # slower, a product with few columns 3 times.
    summing = torch.eye(heads, dtype=left.dtype, device=left.device).repeat_interleave(width // heads, dim=1)
    parts = []
    for start in range(0, pattern.nnz, block):
        rows = pattern.row[start : start + block]
        cols = pattern.col[start : start + block]
        parts.append(summing @ (left.index_select(0, rows) * right.index_select(0, cols)).t())
    return torch.cat(parts, dim=1).t() if parts else left.new_zeros(0, heads)


class _SparseProduct(torch.autograd.Function):
    """values (on a pattern) times dense. Its gradients are products again, so it is differentiable twice."""

    @staticmethod
    def forward(ctx: Any, pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(values, dense)
        return _product(pattern, values, dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        values, dense = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        _, needs_values, needs_dense = ctx.needs_input_grad
        to_values = to_dense = None
        if gradient.is_meta:
            # Shapes only: a pattern without memory cannot be transposed.
            to_values = torch.empty_like(values) if needs_values else None
            return None, to_values, torch.empty_like(dense) if needs_dense else None
        if needs_values:
            to_values = _sampled_product(pattern, gradient, dense).squeeze(1)
        if needs_dense:
            transposed, order = pattern.transposed()
            to_dense = _SparseProduct.apply(transposed, values.index_select(0, order), gradient)
        return None, to_values, to_dense


def spmm(matrix: SparseMatrix, dense: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sparse times dense, ``matrix @ dense + bias``.

    Args:
        matrix: ``(n, m)``; its values may require gradients.
        dense: ``(m, d)``, same dtype and device.
        bias: ``(d,)`` or None.

    Returns:
        ``(n, d)``.

    Raises:
        UserError: shapes, dtypes or devices do not fit.

    >>> m = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    >>> spmm(m, torch.tensor([[1.0], [5.0]])).tolist()
    [[10.0], [1.0]]
    """
    expect_tensors(dense, bias)
    if dense.ndim != 2 or dense.shape[0] != matrix.shape[1]:
        raise UserError(
            f"expected a ({matrix.shape[1]}, d) tensor to multiply with {matrix}, got shape {tuple(dense.shape)}"
        )
    if dense.dtype != matrix.dtype or dense.device != matrix.device:
        raise UserError(
            f"the sparse matrix is {matrix.dtype} on {matrix.device}, the dense one {dense.dtype} on {dense.device}; "
            "bring one to the other with .to()"
        )
    if bias is not None and (bias.shape != dense.shape[1:] or not _alike(bias, dense)):
        raise UserError(
            f"expected a bias of shape ({dense.shape[1]},), {dense.dtype}, on {dense.device}, got "
            f"{tuple(bias.shape)}, {bias.dtype}, on {bias.device}"
        )
    pattern, values = matrix.pattern, matrix.values
    if kernels.serve(values, dense, bias) and pattern.trusted:
        transposed: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
        if torch.is_grad_enabled() and dense.requires_grad:
            other = pattern.transposed()[0]
            transposed = (matrix.transposed_values(), other.crow, other.col)
        return operators.spmm(values, pattern.crow, pattern.col, *transposed, dense, bias)
    out = _SparseProduct.apply(pattern, values, dense)
    return out if bias is None else out + bias


def _alike(left: Tensor, right: Tensor) -> bool:
    return left.dtype is right.dtype and left.device == right.device


def linear(x: Tensor | SparseMatrix, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` for dense or sparse ``x``; sparse features are never made dense.

    Args:
        x: ``(n, in)``, a tensor or a `SparseMatrix`.
        weight: ``(out, in)``, as in ``torch.nn.Linear``.
        bias: ``(out,)`` or None.

    Raises:
        UserError: shapes, dtypes or devices do not fit.
    """
    expect_tensors(None if isinstance(x, SparseMatrix) else x, weight, bias)
    fits = weight.ndim == 2 and len(x.shape) > 0 and x.shape[-1] == weight.shape[1]
    if not fits or not (bias is None or bias.shape == weight.shape[:1]):
        raise UserError(
            f"expected x (n, in), weight (out, in) and bias (out,), got {tuple(x.shape)}, {tuple(weight.shape)}"
            + ("" if bias is None else f" and {tuple(bias.shape)}")
        )
    if isinstance(x, SparseMatrix):
        return spmm(x, weight.t(), bias)
    casts = not x.is_meta and x.device == weight.device and torch.is_autocast_enabled(x.device.type)
    if not _alike(x, weight) and not casts:
        raise UserError(
            f"the features are {x.dtype} on {x.device}, the weights {weight.dtype} on {weight.device}; "
            "bring one to the other with .to()"
        )
    return torch.nn.functional.linear(x, weight, bias)


def propagate(matrix: SparseMatrix, x: Tensor | SparseMatrix, steps: int = 1) -> Tensor:
    """``matrix^steps @ x``, one sparse product at a time.

    Args:
        matrix: ``(n, n)``.
        x: ``(n, d)``; a sparse ``x`` becomes dense after the first step, as its neighbourhoods fill up.
        steps: K >= 0.
    """
    if steps < 0:
        raise UserError(f"expected steps >= 0, got {steps}")
    expect_tensors(None if isinstance(x, SparseMatrix) else x)
    if isinstance(x, SparseMatrix):
        constant = matrix.multiplies_sparsely and x.multiplies_sparsely and not torch.compiler.is_compiling()
        if steps and constant and matrix.dtype == x.dtype and matrix.shape[1] == x.shape[0]:
            return propagate(matrix, matrix.product(x).to_dense(), steps - 1)
        x = x.to_dense()
    out = x
    for _ in range(steps):
        out = spmm(matrix, out)
    return out


def _row_sum(pattern: Pattern, values: Tensor) -> Tensor:
    """Sum of the ``(nnz, H)`` values of each row, ``(rows, H)``: a product with ones, sequential within a row."""
    return _product(pattern.row_summing, values.new_ones(pattern.nnz), values)


class _Gather(torch.autograd.Function):
    """``x[index]``, whose gradient is a sparse product with ones: torch's own adds row by row, eight times slower."""

    @staticmethod
    def forward(ctx: Any, summing: Pattern, index: Tensor, x: Tensor) -> Tensor:
        ctx.summing = summing
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        ones = gradient.new_ones(ctx.summing.nnz)
        return None, None, _SparseProduct.apply(ctx.summing, ones, gradient)


def edge_sum(matrix: SparseMatrix | Pattern, by_row: Tensor, by_column: Tensor) -> Tensor:
    """``out[e] = by_row[row[e]] + by_column[col[e]]``: the additive scores of attention.

    Args:
        matrix: the pattern, ``(n, m)``.
        by_row: ``(n, H)``.
        by_column: ``(m, H)``.

    Returns:
        ``(nnz, H)``.
    """
    pattern = matrix.pattern if isinstance(matrix, SparseMatrix) else matrix
    rows, columns = pattern.shape
    expect_tensors(by_row, by_column)
    if by_row.ndim != 2 or by_row.shape[0] != rows or by_column.shape != (columns, by_row.shape[1]):
        raise UserError(
            f"expected ({rows}, H) and ({columns}, H) scores, got {tuple(by_row.shape)} and {tuple(by_column.shape)}"
        )
    left = _Gather.apply(pattern.row_summing, pattern.row, by_row)
    right = _Gather.apply(pattern.column_summing, pattern.col, by_column)
    return left + right


class _EdgeSoftmax(torch.autograd.Function):
    """Softmax within each row of a pattern; saves its output and nothing else."""

    @staticmethod
    def forward(ctx: Any, pattern: Pattern, scores: Tensor) -> Tensor:
        plain = scores.detach()
        if pattern.nnz:
            peak = torch.segment_reduce(plain, "max", offsets=pattern.crow.long(), axis=0)
        else:
            peak = scores.new_zeros(pattern.shape[0], scores.shape[1])
        weight = (plain - peak.index_select(0, pattern.row)).exp()
        out = weight / _row_sum(pattern, weight).index_select(0, pattern.row)
        ctx.pattern = pattern
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (out,) = ctx.saved_tensors
        return None, _EdgeSoftmaxGradient.apply(ctx.pattern, out, gradient)


class _EdgeSoftmaxGradient(torch.autograd.Function):
    """``out * (g - sum_row(out g))``, itself differentiable in both, so that double backward is exact."""

    @staticmethod
    def forward(ctx: Any, pattern: Pattern, out: Tensor, gradient: Tensor) -> Tensor:
        weighted = out * gradient
        mean = _row_sum(pattern, weighted)
        ctx.pattern = pattern
        ctx.save_for_backward(out, gradient)
        return weighted - out * mean.index_select(0, pattern.row)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor, Tensor]:
        out, gradient = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        mean = _row_sum(pattern, out * gradient).index_select(0, pattern.row)
        along = _row_sum(pattern, upstream * out).index_select(0, pattern.row)
        to_out = upstream * (gradient - mean) - along * gradient
        to_gradient = out * (upstream - along)
        return None, to_out, to_gradient


def edge_softmax(matrix: SparseMatrix | Pattern, scores: Tensor) -> Tensor:
    """Softmax of edge scores over each row: ``a[e] = exp(s[e]) / sum of exp(s[f]) over f in the row of e``.

    Each row's largest score is subtracted first, so that scores of any size are safe. Rows without entries have
    nothing to normalise. Reference: Veličković et al., Graph Attention Networks, ICLR 2018, equation 2.

    Args:
        matrix: the pattern whose rows are the neighbourhoods.
        scores: ``(nnz, H)``, one score per entry and head.

    Returns:
        ``(nnz, H)``, non-negative, each row of the pattern summing to 1 in each head.

    Raises:
        UserError: scores of another shape, or that are no floating-point tensor.

    >>> m = SparseMatrix.from_dense(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    >>> edge_softmax(m, torch.tensor([[0.0], [0.0], [7.0]])).flatten().tolist()
    [0.5, 0.5, 1.0]
    """
    pattern = matrix.pattern if isinstance(matrix, SparseMatrix) else matrix
    _check_floating(scores)
    if scores.ndim != 2 or scores.shape[0] != pattern.nnz:
        raise UserError(f"expected scores of shape ({pattern.nnz}, heads), got {tuple(scores.shape)}")
    return _EdgeSoftmax.apply(pattern, scores)


class _AttentionProduct(torch.autograd.Function):
    """Coefficients ``(nnz, H)`` times values ``(m, H, F)``, as one product over the pattern spread over heads."""

    @staticmethod
    def forward(ctx: Any, pattern: Pattern, coefficients: Tensor, values: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(coefficients, values)
        heads, features = values.shape[1:]
        spread, position = pattern.per_head(heads)
        flat = coefficients.reshape(-1).index_select(0, position)
        return _product(spread, flat, values.reshape(-1, features)).view(-1, heads, features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        coefficients, values = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        _, needs_coefficients, needs_values = ctx.needs_input_grad
        to_coefficients = to_values = None
        if needs_coefficients:
            heads = values.shape[1]
            to_coefficients = _sampled_product(pattern, gradient.flatten(1), values.flatten(1), heads)
        if needs_values:
            transposed, order = pattern.transposed()
            to_values = _AttentionProduct.apply(transposed, coefficients.index_select(0, order), gradient)
        return None, to_coefficients, to_values


def attention_aggregate(matrix: SparseMatrix | Pattern, coefficients: Tensor, values: Tensor) -> Tensor:
    """``out[i, h] = sum over entries e of row i of coefficients[e, h] * values[col[e], h]``.

    Args:
        matrix: the pattern, ``(n, m)``.
        coefficients: ``(nnz, H)``.
        values: ``(m, H, F)``.

    Returns:
        ``(n, H, F)``.

    Raises:
        UserError: shapes, dtypes or devices do not fit, or these are no floating-point tensors.
    """
    pattern = matrix.pattern if isinstance(matrix, SparseMatrix) else matrix
    _check_floating(coefficients)
    _check_floating(values)
    if not _alike(coefficients, values):
        raise UserError(
            f"the coefficients are {coefficients.dtype} on {coefficients.device}, the values {values.dtype} on "
            f"{values.device}; bring one to the other with .to()"
        )
    if values.ndim != 3 or values.shape[0] != pattern.shape[1]:
        raise UserError(
            f"expected values of shape ({pattern.shape[1]}, heads, features), got {tuple(values.shape)}"
        )
    heads = values.shape[1]
    if coefficients.shape != (pattern.nnz, heads):
        raise UserError(
            f"expected coefficients of shape ({pattern.nnz}, {heads}), got {tuple(coefficients.shape)}"
        )
    return _AttentionProduct.apply(pattern, coefficients, values)


def probability(p: float, training: bool) -> float:
    """p in training, else 0; UserError when it is not in [0, 1)."""
    if not 0.0 <= p < 1.0:
        raise UserError(f"expected a dropout probability in [0, 1), got {p}")
    return p if training else 0.0


def _check_floating(x: Tensor) -> None:
    expect_tensors(x)
    if not x.is_floating_point():
        raise UserError(f"expected floating-point numbers, got {x.dtype}; convert them with .float()")


def new_seed() -> Tensor:
    """One 63-bit seed from torch's generator: ``torch.manual_seed`` decides what every dropout drops."""
    return torch.randint(2**63 - 1, (1,))


def new_seeds(count: int) -> list[int]:
    """What so many calls of `new_seed` would draw, in one."""
    return torch.randint(2**63 - 1, (count,)).tolist() if count else []


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout: each number is kept with probability 1 - p and divided by it, or set to 0.

    Same law as ``torch.nn.functional.dropout``. A CPU takes one seed from torch's generator and draws by counter
    (`layerlab.lab.random`), twenty times faster than torch's Bernoulli sampler; other devices draw from the generator.
    """
    p = probability(p, training)
    _check_floating(x)
    if p == 0.0:
        return x
    if kernels.serve(x):
        return operators.activate(x, NONE, new_seed(), p)
    # float32 uniforms have 24 bits: the keep probability is exact to 6e-8, for any dtype of x.
    keep = torch.rand(x.shape, device=x.device) >= p
    return x * keep.to(x.dtype).mul_(1.0 / (1.0 - p))


def activation_dropout(x: Tensor, activation: Literal["relu", "elu"], p: float, training: bool) -> Tensor:
    """``dropout(relu(x))`` or ``dropout(elu(x))`` in one pass.

    Args:
        x: any shape.
        activation: "relu" or "elu".
        p: probability of dropping.
        training: whether to drop.

    Raises:
        UserError: p is not in [0, 1), another activation, or x is no floating-point tensor.
    """
    p = probability(p, training)
    _check_floating(x)
    if activation not in _CODES:
        raise UserError(f"expected the activation 'relu' or 'elu', got {activation!r}")
    if kernels.serve(x):
        return operators.activate(x, _CODES[activation], new_seed() if p else None, p)
    active = torch.relu(x) if activation == "relu" else torch.nn.functional.elu(x)
    return dropout(active, p, training)


def feature_dropout(x: Tensor | SparseMatrix, p: float, training: bool) -> Tensor | SparseMatrix:
    """`dropout` on dense features, or on the stored values of sparse ones (dropping a zero changes nothing)."""
    if isinstance(x, SparseMatrix):
        return x.with_values(dropout(x.values, p, training)) if probability(p, training) else x
    return dropout(x, p, training)
