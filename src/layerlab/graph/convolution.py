"""The linear part of a graph layer: one fused step where the kernels serve, elsewhere the plain operators."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.kernels import convolution as fused
from layerlab.graph.kernels.operators import ELU, NONE, RELU, activate
from layerlab.graph.sparse import SparseMatrix, expect_tensors
from layerlab.lab import kernels
from layerlab.lab.kernels.registration import direct, plain

Activation: TypeAlias = Literal["relu", "elu"]
_CODES: dict[str | None, int] = {None: NONE, "relu": RELU, "elu": ELU}


def convolve(
    x: Tensor | SparseMatrix,
    operator: SparseMatrix | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation | None = None,
    p: float = 0.0,
    training: bool = False,
) -> Tensor:
    """``P drop(act(x)) W^T + b``: what a layer does to its input, in one step.

    Args:
        x: ``(m, in)``, a tensor or a `SparseMatrix`. Dropout of sparse features drops stored values: a zero stays one.
        operator: P, ``(n, m)``; None for the identity.
        weight: ``(out, in)``, as in ``torch.nn.Linear``.
        bias: ``(out,)`` or None.
        activation: applied to ``x`` first: "relu", "elu" or None. Sparse features take none.
        p: probability of dropping, in [0, 1); drawn from torch's generator, by one seed.
        training: whether to drop.

    Returns:
        ``(n, out)``.

    Raises:
        UserError: shapes, dtypes or devices do not fit, or p is not in [0, 1).

    >>> import torch
    >>> p = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    >>> convolve(torch.tensor([[1.0], [-5.0]]), p, torch.ones(1, 1), activation="relu").tolist()
    [[0.0], [1.0]]
    """
    if activation not in _CODES or (activation and isinstance(x, SparseMatrix)):
        raise UserError(f"expected the activation 'relu' or 'elu' of dense numbers, got {activation!r}")
    expect_tensors(None if isinstance(x, SparseMatrix) else x, weight, bias)
    p = ops.probability(p, training)
    if not _fusible(x, operator, weight, bias):
        if isinstance(x, SparseMatrix) or activation is None:
            return _propagate(ops.feature_dropout(x, p, training), operator, weight, bias)
        return _propagate(ops.activation_dropout(x, activation, p, training), operator, weight, bias)
    code, seed = _CODES[activation], ops.new_seed() if p else None

    def single(x: Tensor | SparseMatrix, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(x, SparseMatrix):
            return _propagate(x.with_values(activate(x.values, code, seed, p)), operator, weight, bias)
        return _propagate(activate(x, code, seed, p), operator, weight, bias)

    return fused.convolve(x, operator, weight, bias, code, 0 if seed is None else int(seed), p, single)


def _propagate(
    x: Tensor | SparseMatrix, operator: SparseMatrix | None, weight: Tensor, bias: Tensor | None
) -> Tensor:
    if operator is None:
        return ops.linear(x, weight, bias)
    return ops.spmm(operator, ops.linear(x, weight), bias)


def _fusible(
    x: Tensor | SparseMatrix, operator: SparseMatrix | None, weight: Tensor, bias: Tensor | None
) -> bool:
    """Whether the arguments fit, are of a kind that the kernels serve, and only x, weight and bias are trained."""
    dtype = weight.dtype
    if not (kernels.serve(weight) and direct(weight)):
        return False
    for matrix in (x, operator):
        if isinstance(matrix, SparseMatrix):
            values = matrix.values
            if values.dtype is not dtype or values.requires_grad or not plain(values):
                return False
            if not matrix.pattern.trusted:
                return False
        elif matrix is not None and (matrix.dtype is not dtype or not plain(matrix)):
            return False
    if bias is not None and (bias.dtype is not dtype or not plain(bias) or bias.shape != weight.shape[:1]):
        return False
    # What does not fit is refused by the plain operators, each for its part.
    shape = x.shape
    return (
        len(shape) == weight.ndim == 2
        and shape[1] == weight.shape[1]
        and (operator is None or operator.shape[1] == shape[0])
    )
