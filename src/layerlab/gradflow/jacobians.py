"""Jacobians between two points of any model, known by their products alone.

>>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
>>> operator = jacobian(model, torch.zeros(8, 4, dtype=torch.float64), start="0", stop="output")
>>> operator
JacobianOperator(0 -> output, samples=8, rows=2, columns=4, mode='reverse')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call, Choice
from layerlab.gradflow.points import Point
from layerlab.gradflow.products import Layout, Products, forward, reverse, rows
from layerlab.gradflow.trace import Trace, by_memory, is_memory

Mode: TypeAlias = Literal["auto", "reverse", "forward", "rows"]
BatchDim: TypeAlias = int | Literal["auto"] | None

ROWS_UP_TO = 4096
"""Entries of one sample's output up to which mode "rows" forms the Jacobian."""


# No power of 2: the digits of a multiple are rounded elsewhere.
_MULTIPLE = 0.7


class JacobianOperator:
    """J_b = ∂y_b/∂x_b for each sample b, with x at one point of a model and y at another.

    J v and Jᵀu act on all samples at once. When every output depends on its own sample alone, the Jacobian of the
    batch is block-diagonal and one product with it is a product with each block. Otherwise (batch norm in train
    mode, nodes of a graph) the whole batch is one sample.

    It is a `layerlab.gradflow.linear_maps.LinearMap`: hand it to `layerlab.gradflow.singular_values`. Made by
    `jacobian`, or by `Trace` for many pairs of points in one forward pass.

    Attributes:
        start: where x is.
        stop: where y is.
        samples: B.
        rows: m, entries of y for each sample.
        columns: n, entries of x for each sample.
        dtype: of x.
        mode: how J v is computed, see `jacobian`.
    """

    def __init__(self, start: Point, stop: Point, mode: str, products: Products, layout: Layout) -> None:
        self.start, self.stop, self.mode = start, stop, mode
        self._products, self._layout = products, layout
        self.samples, self.rows, self.columns = layout.samples, layout.rows, layout.columns
        self.dtype = layout.dtype

    def product(self, vectors: Tensor) -> Tensor:
        """J_b v_b for each sample.

        Args:
            vectors: (B, n), floating-point.

        Returns:
            (B, m), of ``dtype``.

        Raises:
            UserError: another shape.
        """
        self._check(vectors, self.columns)
        with by_memory():
            return self._layout.gather_output(self._products.product(self._layout.split_input(vectors)))

    def transposed_product(self, vectors: Tensor) -> Tensor:
        """J_bᵀ u_b for each sample: (B, m) to (B, n)."""
        self._check(vectors, self.rows)
        with by_memory():
            return self._layout.gather_input(self._products.transposed(self._layout.shape_output(vectors)))

    def _check(self, vectors: Tensor, size: int) -> None:
        if tuple(vectors.shape) != (self.samples, size):
            raise UserError(f"expected vectors of shape {(self.samples, size)}, got {tuple(vectors.shape)}")

    def __repr__(self) -> str:
        return (
            f"JacobianOperator({self.start} -> {self.stop}, samples={self.samples}, rows={self.rows}, "
            f"columns={self.columns}, mode={self.mode!r})"
        )


def jacobian(
    model: Callable[..., Any],
    inputs: Any,
    *,
    start: str | Point = "input",
    stop: str | Point = "output",
    wrt: Choice | Sequence[Choice] = None,
    output: Choice = None,
    batch_dim: BatchDim = "auto",
    mode: Mode = "auto",
    seed: int = 0,
) -> JacobianOperator:
    """The Jacobian of ``model`` at ``inputs`` from one point to another, as an operator.

    Nothing of the model changes: buffers, gradients, attributes and the random number generators are put back, and
    its train or eval mode is kept. Random numbers (dropout) are frozen: every product sees the same mask. Parameters
    may be frozen or not.

    Ways to J v, Jᵀu always being a vector-Jacobian product of one recorded pass:

    - "reverse": the derivative of u ↦ Jᵀu, which is linear, in the direction v. It costs a backward pass, no
      forward pass, and a second record in memory.
    - "forward": forward-mode differentiation; each product is a forward pass, about 3 times as long.
    - "rows": J is formed by m vector-Jacobian products; for what has neither (``once_differentiable``).
    - "auto": the first of these that works and is the transpose of Jᵀ, tried on a random vector. Fused attention
      and LSTMs, which have no second derivative, are run by their plain kernels.

    Reference: B. Pearlmutter, Fast exact multiplication by the Hessian (Neural Computation 6, 1994); for the double
    transpose, A. Radul et al., You only linearize once (POPL 2023).

    Args:
        model: a module, in train or eval mode, or a function of tensors.
        inputs: a tensor, a tuple of arguments or a mapping of named ones; float32 or float64. They are not written
            to. With integers only, the output of the first embedding called takes the input's place.
        start: ``"input"``, ``"output"`` or a `Point` like ``"layers.3"`` (its output), ``"layers.3:input"``.
        stop: a point behind it.
        wrt: which input, by position, name or path, or a list of them, whose entries are then put side by side;
            needed where several are floating-point.
        output: which output, by position, key or path; needed where there are several.
        batch_dim: the dimension of x and y that counts samples which do not mix; None to take the batch as one;
            "auto" for 0 where no sample's output depends on another, or else None.
        mode: see above.
        seed: of the frozen random numbers.

    Raises:
        UserError: an unknown or unreached point, inputs or weights that are not finite, empty or not
            differentiable, a choice that is needed, samples that mix, or a model that raises (file and line named).

    >>> import torch
    >>> operator = jacobian(lambda x: x**3, torch.tensor([[1.0], [2.0]]))
    >>> operator.product(torch.ones(2, 1))
    tensor([[ 3.],
            [12.]])
    """
    points = [Point.parse(start), Point.parse(stop)]
    trace = Trace(Call.of(model, inputs, wrt, output, seed), points)
    return between(trace, points[0], points[1], batch_dim=batch_dim, mode=mode)


def between(
    trace: Trace, start: str | Point, stop: str | Point, *, batch_dim: BatchDim = "auto", mode: Mode = "auto"
) -> JacobianOperator:
    """The Jacobian between two points of one recorded forward pass; arguments as in `jacobian`.

    Args:
        trace: a pass that recorded both points.

    Raises:
        UserError: as `jacobian`; or y does not depend on x.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    >>> trace = Trace(Call.of(model, torch.ones(1, 3), None, None, 0), ["input", "0", "1"])
    >>> [between(trace, a, b).rows for a, b in (("input", "0"), ("0", "1"))]
    [3, 3]
    """
    with by_memory():
        return _between(trace, Point.parse(start), Point.parse(stop), batch_dim, mode)


def _between(trace: Trace, start: Point, stop: Point, batch_dim: BatchDim, mode: Mode) -> JacobianOperator:
    trace.check_path(start, stop)
    layout = _layout(trace, start, stop, batch_dim)
    if mode not in ("auto", "reverse", "forward", "rows"):
        raise UserError(f"expected mode 'auto', 'reverse', 'forward' or 'rows', got {mode!r}")
    reasons = []
    for name in ("reverse", "forward", "rows") if mode == "auto" else (mode,):
        for plain in (False, True):
            if trace.plain and not plain:
                continue
            if name == "rows" and layout.rows > ROWS_UP_TO:
                reasons.append(f"rows: more than {ROWS_UP_TO} output entries a sample")
                break
            if plain:
                trace.use_plain_kernels()
            try:
                products = _made(name, trace, start, stop, layout)
                if (reason := _adjoint_fault(products, trace, stop)) is None:
                    return JacobianOperator(start, stop, name, products, layout)
            except (RuntimeError, UserError) as error:
                # Torch says with a RuntimeError that an operator has no such derivative.
                cause = error.__cause__ if isinstance(error, UserError) else error
                if is_memory(cause) or not isinstance(cause, RuntimeError):
                    raise
                reason = str(cause).splitlines()[0]
            reasons.append(f"{name}: {reason}")
    raise UserError(f"no way to multiply by the Jacobian from {start} to {stop} ({'; '.join(reasons)[:600]})")


def _made(name: str, trace: Trace, start: Point, stop: Point, layout: Layout) -> Products:
    if name == "reverse":
        return reverse(trace.tensors(start), trace.tensor(stop))
    if name == "forward":
        return forward(trace, start, stop)
    return rows(trace.tensors(start), trace.tensor(stop), layout)


def _adjoint_fault(products: Products, trace: Trace, stop: Point) -> str | None:
    """Whether ⟨u, J Jᵀu⟩ = ‖Jᵀu‖² on a random u: a derivative that drops a term, or another one, fails."""
    y = trace.tensor(stop)
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
    w = products.transposed(u)
    z = products.product(w)
    squared = sum(float(part.double().square().sum()) for part in w)
    inner = float((u.double() * z.double()).sum())
    scale = float(u.double().norm() * z.double().norm())
    # Below the least normal number there are no digits to compare: a saturated softmax gives such products.
    tolerance = 1e3 * torch.finfo(y.dtype).eps * max(squared, scale) + torch.finfo(y.dtype).tiny
    if abs(inner - squared) <= tolerance or squared != squared:
        return None
    # Differences of nearly equal numbers, as in a softmax that is almost certain, have lost digits: how many shows when
    # the same is computed of a multiple.
    noise_w = sum(
        float((a / _MULTIPLE - b).double().norm()) ** 2
        for a, b in zip(products.transposed(_MULTIPLE * u), w, strict=True)
    )
    noise_z = float((products.product([_MULTIPLE * part for part in w]) / _MULTIPLE - z).double().norm())
    lost = float(u.double().norm()) * noise_z + squared**0.5 * noise_w**0.5
    if abs(inner - squared) <= tolerance + 10 * lost:
        return None
    return f"<u, J J'u> = {inner:.6g} differs from |J'u|^2 = {squared:.6g}"


def _layout(trace: Trace, start: Point, stop: Point, batch_dim: BatchDim) -> Layout:
    x, y = trace.tensors(start), trace.tensor(stop)
    if batch_dim is None:
        return Layout(x, y, None)
    if batch_dim == "auto":
        sizes = {t.shape[0] if t.ndim else 0 for t in (*x, y)}
        alone = len(sizes) == 1 and 0 not in sizes and not _mixes(trace, start, stop, 0)
        return Layout(x, y, 0 if alone else None)
    for tensor in (*x, y):
        if not -tensor.ndim <= batch_dim < tensor.ndim or tensor.shape[batch_dim] != y.shape[batch_dim]:
            raise UserError(
                f"batch_dim={batch_dim} does not count the same samples in shapes {[tuple(t.shape) for t in x]} and "
                f"{tuple(y.shape)}; pass batch_dim=None to take the batch as one"
            )
    if _mixes(trace, start, stop, batch_dim):
        raise UserError(
            "outputs depend on the inputs of other samples (batch norm in train mode, or another batch dimension?); "
            "pass batch_dim=None to take the batch as one"
        )
    return Layout(x, y, batch_dim)


def _mixes(trace: Trace, start: Point, stop: Point, dim: int) -> bool:
    """Whether some sample's output depends on another's input, by 2·log2(B) vector-Jacobian products.

    Cotangents live on the samples with one bit of their number set, or not set: any two samples differ in a bit.
    """
    x, y = trace.tensors(start), trace.tensor(stop)
    count = y.shape[dim]
    generator = torch.Generator().manual_seed(2)
    u = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
    number = torch.arange(count, device=y.device)
    for bit in range((count - 1).bit_length()):
        for value in (0, 1):
            chosen = ((number >> bit) & 1) == value
            shape = [count if d == dim % y.ndim else 1 for d in range(y.ndim)]
            grads = torch.autograd.grad(
                y, x, torch.where(chosen.reshape(shape), u, 0.0), retain_graph=True, allow_unused=True
            )
            for grad in grads:
                if grad is not None and bool((grad.index_select(dim, (~chosen).nonzero()[:, 0]) != 0).any()):
                    return True
    return False
