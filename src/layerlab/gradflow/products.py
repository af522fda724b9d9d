"""The ways to multiply by a Jacobian and its transpose, on tensors of the model's own shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.autograd.forward_ad as dual
from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import run
from layerlab.gradflow.points import Point
from layerlab.gradflow.trace import Trace


class Products(Protocol):
    """J and Jᵀ, in the shapes of x (several tensors) and y."""

    def product(self, v: Sequence[Tensor]) -> Tensor: ...
    def transposed(self, u: Tensor) -> list[Tensor]: ...


class Layout:
    """How a batch of flat vectors lies in the tensors x and y.

    Args:
        x: the tensors differentiated.
        y: the output.
        dim: the dimension that counts samples, or None for one sample.
    """

    def __init__(self, x: Sequence[Tensor], y: Tensor, dim: int | None) -> None:
        self._x, self._y, self._dim = [t.shape for t in x], y.shape, dim
        self.samples = 1 if dim is None else y.shape[dim]
        self._sizes = [t.numel() // self.samples for t in x]
        self.columns, self.rows = sum(self._sizes), y.numel() // self.samples
        self.dtype, self._device = y.dtype, y.device
        self._dtypes = [t.dtype for t in x]

    def split_input(self, flat: Tensor) -> list[Tensor]:
        """(B, n) to the shapes of x."""
        parts = flat.to(self._device).split(self._sizes, 1)
        return [self._shaped(p, s).to(d) for p, s, d in zip(parts, self._x, self._dtypes, strict=True)]

    def shape_output(self, flat: Tensor) -> Tensor:
        """(B, m) to the shape of y."""
        return self._shaped(flat.to(self._device, self.dtype), self._y)

    def gather_input(self, tensors: Sequence[Tensor]) -> Tensor:
        """The shapes of x to (B, n)."""
        return torch.cat([self._flat(t).to(self.dtype) for t in tensors], 1)

    def gather_output(self, tensor: Tensor) -> Tensor:
        """The shape of y to (B, m)."""
        return self._flat(tensor)

    def _shaped(self, flat: Tensor, shape: torch.Size) -> Tensor:
        if self._dim is None:
            return flat.reshape(shape)
        first = [shape[self._dim], *(s for d, s in enumerate(shape) if d != self._dim % len(shape))]
        return flat.reshape(first).movedim(0, self._dim)

    def _flat(self, tensor: Tensor) -> Tensor:
        return (tensor if self._dim is None else tensor.movedim(self._dim, 0)).reshape(self.samples, -1)


class _Reverse:
    """Jᵀu by the record of the pass; J v by the record of u ↦ Jᵀu."""

    def __init__(self, x: list[Tensor], y: Tensor) -> None:
        self._x, self._y = x, y
        with torch.enable_grad():
            self._u = torch.zeros_like(y, requires_grad=True)
            self._linear = torch.autograd.grad(y, x, self._u, create_graph=True, materialize_grads=True)

    def transposed(self, u: Tensor) -> list[Tensor]:
        return _vjp(self._x, self._y, u)

    def product(self, v: Sequence[Tensor]) -> Tensor:
        # What Jᵀu does not depend on u through contributes nothing; a lost dependence fails the adjoint test.
        pairs = [(g, part) for g, part in zip(self._linear, v, strict=True) if g.requires_grad]
        if not pairs:
            return torch.zeros_like(self._y)
        (found,) = torch.autograd.grad(
            [g for g, _ in pairs],
            [self._u],
            [part for _, part in pairs],
            retain_graph=True,
            materialize_grads=True,
        )
        return found


class _Forward:
    """Jᵀu by the record of the pass; J v by passes with dual numbers."""

    def __init__(self, trace: Trace, start: Point, stop: Point) -> None:
        self._trace, self._start, self._stop = trace, start, stop
        self._x, self._y = trace.tensors(start), trace.tensor(stop)

    def transposed(self, u: Tensor) -> list[Tensor]:
        return _vjp(self._x, self._y, u)

    def product(self, v: Sequence[Tensor]) -> Tensor:
        found: list[Tensor] = []

        def enter(tensors: list[Tensor]) -> list[Tensor]:
            # Copies of both: an operation in place would write to the caller's direction.
            return [dual.make_dual(t.clone(), part.clone()) for t, part in zip(tensors, v, strict=True)]

        def leave(tensors: list[Tensor]) -> list[Tensor]:
            value, tangent = dual.unpack_dual(tensors[0])
            if not torch.allclose(value, self._y, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise UserError(
                    f"a second forward pass with the same random numbers gives another value at {self._stop}: the "
                    "model keeps state between calls"
                )
            found.append(torch.zeros_like(value) if tangent is None else tangent.clone())
            return tensors

        with torch.no_grad(), dual.dual_level(), self._trace.kernels():
            run(self._trace.call, {self._start: enter, self._stop: leave}, until=self._stop)
        return found[0]


class _Rows:
    """J itself, from as many vector-Jacobian products as a sample has outputs."""

    def __init__(self, x: list[Tensor], y: Tensor, layout: Layout) -> None:
        self._x, self._y, self._layout = x, y, layout
        unit = torch.zeros(layout.samples, layout.rows, dtype=y.dtype)
        rows = []
        for row in range(layout.rows):
            unit.zero_()[:, row] = 1.0
            rows.append(layout.gather_input(_vjp(x, y, layout.shape_output(unit))))
        self._matrices = torch.stack(rows, 1)

    def transposed(self, u: Tensor) -> list[Tensor]:
        return _vjp(self._x, self._y, u)

    def product(self, v: Sequence[Tensor]) -> Tensor:
        flat = torch.einsum("bmn,bn->bm", self._matrices, self._layout.gather_input(v))
        return self._layout.shape_output(flat)


def _vjp(x: list[Tensor], y: Tensor, u: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(y, x, u, retain_graph=True, materialize_grads=True))


def reverse(x: list[Tensor], y: Tensor) -> Products:
    """By the derivative of u ↦ Jᵀu.

    Raises:
        RuntimeError: from torch, where an operator's derivative has no derivative.
    """
    return _Reverse(x, y)


def forward(trace: Trace, start: Point, stop: Point) -> Products:
    """By forward-mode differentiation."""
    return _Forward(trace, start, stop)


def rows(x: list[Tensor], y: Tensor, layout: Layout) -> Products:
    """By the matrix, formed here."""
    return _Rows(x, y, layout)
