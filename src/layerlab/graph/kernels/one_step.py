"""A model of graph layers, its loss and all its gradients as one step of autograd.

On a small graph a training step consists mostly of ways between kernels: modules, checks, autograd's nodes, tensors
that become arrays and back. Here a step is a list of layers that take and give arrays; the forward computes the
gradients, too, and the backward hands them out. Same kernels in the same order as layer by layer, so the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.kernels import attention, convolution
from layerlab.graph.kernels.loss import value_and_gradient as loss_and_gradient
from layerlab.graph.kernels.operators import array, keep_law
from layerlab.graph.sparse import Pattern, SparseMatrix

Numbers = NDArray[Any]


class Layer(Protocol):
    """One layer: a forward leaves in it what the backward needs, and the backward takes that out again."""

    parameters: int
    """How many of the step's parameters are its own."""
    p: float
    """Probability of dropping: above 0, the layer takes one seed."""

    def shape(self, rows: int, width: int, own: Sequence[Numbers | None]) -> tuple[int, int] | None:
        """The shape of the output for an x of ``(rows, width)``; None where the parameters do not fit it."""

    def forward(self, x: Any, own: Sequence[Numbers | None], seeds: Iterator[int]) -> Numbers: ...

    def backward(self, given: Numbers, needs_x: bool) -> tuple[Numbers | None, Sequence[Numbers | None]]:
        """The gradients of x and of its parameters."""


class Convolution:
    """``P (drop(act(x)) W^T) + b``, see `layerlab.graph.convolution.convolve`; parameters weight and bias or None."""

    parameters = 2

    def __init__(self, operator: SparseMatrix | None, activation: int, p: float, dtype: torch.dtype) -> None:
        self.operator, self.activation, self.p, self.dtype = operator, activation, p, dtype

    def shape(self, rows: int, width: int, own: Sequence[Numbers | None]) -> tuple[int, int] | None:
        weight, bias = own
        if weight is None or weight.ndim != 2 or weight.shape[1] != width:
            return None
        if bias is not None and bias.shape != weight.shape[:1]:
            return None
        if self.operator is None:
            return rows, weight.shape[0]
        after, before = self.operator.shape
        return (after, weight.shape[0]) if before == rows else None

    def forward(self, x: Any, own: Sequence[Numbers | None], seeds: Iterator[int]) -> Numbers:
        weight, bias = own
        assert weight is not None
        self.x, self.weight, self.biased = x, weight, bias is not None
        self.before = convolution.Before(self.activation, next(seeds) if self.p else 0, self.p, self.dtype)
        out, self.left = convolution.forward(x, self.operator, weight, bias, self.before)
        return out

    def backward(self, given: Numbers, needs_x: bool) -> tuple[Numbers | None, Sequence[Numbers | None]]:
        x, left = self.x, self.left
        del self.x, self.left  # or a large graph's would be there still while the next ones are made
        to_x, to_weight, to_bias = convolution.backward(
            x, left, self.operator, self.weight, self.before, given, needs_x, self.biased
        )
        return to_x, (to_weight, to_bias)


class Attention:
    """See `layerlab.graph.attention.attend`; parameters both vectors and bias or None."""

    parameters = 3

    def __init__(self, pattern: Pattern, heads: int, slope: float, p: float, dtype: torch.dtype) -> None:
        self.pattern, self.heads, self.slope, self.p = pattern, heads, slope, p
        self.threshold, self.scale = keep_law(p, dtype)
        self.cuts = attention.slabs_of(pattern.transposed()[0].arrays[0], pattern.shape[0])

    def shape(self, rows: int, width: int, own: Sequence[Numbers | None]) -> tuple[int, int] | None:
        target, source, bias = own
        after, before = self.pattern.shape
        if target is None or source is None or target.ndim != 2 or target.shape != source.shape:
            return None
        vectors, features = target.shape
        if vectors not in (1, self.heads) or self.heads * features != width or not after <= before == rows:
            return None
        return None if bias is not None and bias.shape != (width,) else (after, width)

    def forward(self, x: Any, own: Sequence[Numbers | None], seeds: Iterator[int]) -> Numbers:
        target, source, bias = own
        assert target is not None and source is not None
        self.z, self.shared = x, target.shape[0] == 1
        self.vectors = attention.vector(target, self.heads), attention.vector(source, self.heads)
        self.bias = bias
        drawn = (np.uint64(next(seeds) if self.p else 0), self.threshold, self.scale)
        self.left = attention.forward(
            *(x, *self.vectors, self.bias, *self.pattern.arrays, self.heads, self.pattern.longest),
            *(self.slope, drawn),
        )
        return self.left.out

    def backward(self, given: Numbers, needs_x: bool) -> tuple[Numbers | None, Sequence[Numbers | None]]:
        z, left = self.z, self.left
        del self.z, self.left
        transposed = self.pattern.transposed()[0]
        to_z, sums, to_bias = attention.backward(
            *(given, z, *self.vectors, self.bias, left, *transposed.arrays, self.pattern.order),
            *(self.cuts, self.slope, self.scale),
        )
        totals = attention.of_vectors(sums, self.heads, 1 if self.shared else self.heads)
        return to_z, (totals[0], totals[1], None if self.bias is None else to_bias)


class Mean:
    """The mean over heads, plus a bias or None; in torch's own operations, as layer by layer."""

    parameters, p = 1, 0.0

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def shape(self, rows: int, width: int, own: Sequence[Numbers | None]) -> tuple[int, int] | None:
        each = width // self.heads
        return None if own[0] is not None and own[0].shape != (each,) else (rows, each)

    def forward(self, x: Any, own: Sequence[Numbers | None], seeds: Iterator[int]) -> Numbers:
        (bias,) = own
        self.biased = bias is not None
        out = torch.from_numpy(x).view(len(x), self.heads, -1).mean(1)
        return (out if bias is None else out + torch.from_numpy(bias)).numpy()

    def backward(self, given: Numbers, needs_x: bool) -> tuple[Numbers | None, Sequence[Numbers | None]]:
        gradient = torch.from_numpy(given)
        to_x = (gradient[:, None] / self.heads).expand(-1, self.heads, -1).reshape(len(given), -1)
        return to_x.numpy(), (gradient.sum(0).numpy() if self.biased else None,)


def value_and_gradients(
    layers: Sequence[Layer],
    x: Numbers | SparseMatrix,
    labels: Tensor,
    seeds: Sequence[int],
    parameters: Sequence[Numbers | None],
) -> tuple[Numbers, list[Numbers | None]]:
    """Mean cross-entropy of the layers' output at ``x``, and its gradient by each parameter; for checked arguments."""
    h: Any = x
    first, drawn = 0, iter(seeds)
    for layer in layers:
        h = layer.forward(h, parameters[first : first + layer.parameters], drawn)
        first += layer.parameters
    loss, gradient = loss_and_gradient(h, array(labels))
    found: list[Numbers | None] = []
    given: Numbers | None = gradient
    for position in range(len(layers) - 1, -1, -1):
        assert given is not None
        given, own_gradients = layers[position].backward(given, position > 0)
        found[:0] = own_gradients
    return loss, found


class _OneStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layers: Sequence[Layer],
        x: Any,
        labels: Tensor,
        seeds: Sequence[int],
        *parameters: Tensor | None,
    ) -> Tensor:
        numbers = [None if p is None else array(p) for p in parameters]
        loss, ctx.gradients = value_and_gradients(layers, x, labels, seeds, numbers)
        return torch.from_numpy(loss)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError(
                "expected a backward pass without create_graph: the loss of a whole model in one step cannot be "
                "differentiated twice; take cross_entropy(model(x, graph), labels)"
            )
        found, ctx.gradients = ctx.gradients, None
        if found is None:
            raise UserError("expected one backward pass through a loss; compute the loss anew for another")
        scale = upstream.item()
        if scale != 1.0:
            found = [part if part is None else part * part.dtype.type(scale) for part in found]
        return *(None,) * 4, *(None if part is None else torch.from_numpy(part) for part in found)


def loss_of(
    layers: Sequence[Layer],
    x: Numbers | SparseMatrix,
    labels: Tensor,
    seeds: Sequence[int],
    parameters: Sequence[Tensor | None],
) -> Tensor:
    """Mean cross-entropy of the layers' output at ``x``; for checked arguments, parameters layer by layer."""
    loss: Tensor = _OneStep.apply(layers, x, labels, seeds, *parameters)
    return loss
