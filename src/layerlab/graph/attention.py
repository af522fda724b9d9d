"""Additive attention over a pattern: the fused kernel where it serves, elsewhere the plain operators."""

from __future__ import annotations

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.kernels import attention as operator
from layerlab.graph.sparse import Pattern, SparseMatrix, expect_tensors
from layerlab.lab import kernels


def attend(
    matrix: SparseMatrix | Pattern,
    z: Tensor,
    target: Tensor,
    source: Tensor,
    bias: Tensor | None = None,
    *,
    heads: int,
    negative_slope: float = 0.2,
    p: float = 0.0,
    training: bool = False,
) -> Tensor:
    """Additive attention over a pattern: scores, softmax, dropout and aggregation, plus bias.

    ``out[i, h] = sum over e of row i of drop(a[e, h]) z[col[e], h]``, where ``a`` is the softmax over the row of
    ``LeakyReLU(target[h] . z[i, h] + source[h] . z[col[e], h])``. Of a rectangular pattern, rows are the first of its
    columns.
    Reference: Veličković et al., Graph Attention Networks, ICLR 2018, equations 1 to 4.

    Args:
        matrix: the pattern, ``(n, m)``, n <= m.
        z: ``(m, heads * F)``.
        target: ``(heads, F)``, or ``(1, F)`` for one vector that serves all heads; the receiving node's part.
        source: likewise, the sending node's part.
        bias: ``(heads * F,)`` or None.
        heads: number of heads.
        negative_slope: of the LeakyReLU.
        p: probability of dropping a coefficient; drawn from torch's generator, by one seed.
        training: whether to drop.

    Returns:
        ``(n, heads * F)``.

    Raises:
        UserError: shapes, dtypes or devices do not fit, or p is not in [0, 1).

    >>> m = SparseMatrix.from_dense(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    >>> zero = torch.zeros(1, 1)
    >>> attend(m, torch.tensor([[2.0], [4.0]]), zero, zero, heads=1).flatten().tolist()
    [3.0, 4.0]
    """
    pattern = matrix.pattern if isinstance(matrix, SparseMatrix) else matrix
    rows, columns = pattern.shape
    expect_tensors(z, target, source, bias)
    fits = (
        z.ndim == target.ndim == 2 and len(z) == columns and rows <= columns and target.shape == source.shape
    )
    fits = fits and len(target) in (1, heads) and z.shape[1] == heads * target.shape[1]
    if not fits or not (bias is None or bias.shape == z.shape[1:]):
        shapes = ", ".join(str(tuple(t.shape)) for t in (z, target, source, bias) if t is not None)
        raise UserError(
            f"expected z ({columns}, {heads} * F), two vectors ({heads} or 1, F) and bias ({heads} * F,) for a "
            f"{rows} x {columns} pattern of at most as many rows as columns, got {shapes}"
        )
    for t in (z, target, source, bias):
        if t is not None and not (
            t.is_floating_point() and t.dtype is z.dtype and t.device == pattern.col.device
        ):
            raise UserError(
                f"expected z, vectors and bias of one floating-point dtype on {pattern.col.device}, as the pattern, "
                f"got {t.dtype} on {t.device} beside z of {z.dtype}; bring one to the other with .to()"
            )
    p = ops.probability(p, training)
    if z.is_meta:
        # Shapes only.
        out = z[:rows] + target.sum() + source.sum()
        return out if bias is None else out + bias
    if not (kernels.serve(z, target, source, bias) and pattern.trusted):
        coefficients = coefficients_of(pattern, z, target, source, heads=heads, negative_slope=negative_slope)
        dropped = ops.dropout(coefficients, p, training)
        out = ops.attention_aggregate(pattern, dropped, z.view(columns, heads, -1)).flatten(1)
        return out if bias is None else out + bias
    transposed: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
    if torch.is_grad_enabled():
        other, order = pattern.transposed()
        transposed = (other.crow, other.col, order)
    seed = ops.new_seed() if p else None
    return operator.attention(
        *(z, target, source, bias, pattern.crow, pattern.col, *transposed),
        *(heads, pattern.longest, negative_slope, seed, p),
    )[0]


def coefficients_of(
    matrix: SparseMatrix | Pattern,
    z: Tensor,
    target: Tensor,
    source: Tensor,
    *,
    heads: int,
    negative_slope: float = 0.2,
) -> Tensor:
    """The coefficients of `attend` before dropout, ``(nnz, heads)``; differentiable."""
    pattern = matrix.pattern if isinstance(matrix, SparseMatrix) else matrix
    expect_tensors(z, target, source)
    both = torch.stack([target, source]).expand(2, heads, -1)
    # Block-diagonal in the heads: entry ((h, f), (s, h')) is a_s[h, f] where h = h'. One product for all scores.
    spread = torch.diag_embed(both.permute(2, 0, 1)).permute(2, 0, 1, 3)
    to_target, to_source = (z @ spread.reshape(z.shape[1], 2 * heads)).split(heads, dim=1)
    # Of a rectangular pattern, the receiving nodes are the first of the sending ones.
    scores = ops.edge_sum(pattern, to_target[: pattern.shape[0]], to_source)
    return ops.edge_softmax(pattern, torch.nn.functional.leaky_relu(scores, negative_slope))
