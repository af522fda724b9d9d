"""The Jacobians of the steps of a model measured: singular values, products over depth, gradients on their way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.jacobians import JacobianOperator, between
from layerlab.gradflow.linear_maps import LinearMap, dense
from layerlab.gradflow.path import Step
from layerlab.gradflow.prefixes import largest_of_prefixes
from layerlab.gradflow.singular_values import DENSE_UP_TO, extreme_singular_values
from layerlab.gradflow.trace import Trace
from layerlab.lab.subjects import user_code

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ends:
    """Extreme singular values of a Jacobian (or, of a product, their natural logarithms), for each sample.

    Attributes:
        largest: (B) float64, σ_max; attained, so at most the true one.
        largest_error: (B), the residual relative to σ_max: a singular value lies that near.
        smallest: (B), σ_min of the min(m, n) values; an upper bound where ``smallest_exact`` is False; None if unknown.
        smallest_exact: whether ``smallest`` is more than a bound.
        method: "dense", "diagonal" or "lanczos".
    """

    largest: Values
    largest_error: Values
    smallest: Values | None
    smallest_exact: bool
    method: str


@dataclass(frozen=True, eq=False)
class Backward:
    """Gradients on their way back, in natural logarithms of Euclidean norms.

    Attributes:
        gradients: (L + 1, B), of x_0, …, x_L; the last is that of the output. −∞ where the gradient is 0.
        weights: for each step, by parameter: (log ‖∂/∂W‖, log ‖W‖), over the whole batch.
    """

    gradients: Values
    weights: tuple[dict[str, tuple[float, float]], ...]


class Map(LinearMap, Protocol):
    """The Jacobian of a step.

    Attributes:
        attached: whether there is a derivative: a step that cuts the gradient is the zero map.
    """

    attached: bool


class _Attached:
    """The Jacobian of a step through which the gradient passes."""

    attached = True

    def __init__(self, inner: JacobianOperator) -> None:
        self.samples, self.rows, self.columns, self.dtype = (
            inner.samples,
            inner.rows,
            inner.columns,
            inner.dtype,
        )
        self.product, self.transposed_product = inner.product, inner.transposed_product


class _Cut:
    """The zero map of a step that cuts the gradient."""

    attached = False

    def __init__(self, samples: int, rows: int, columns: int, dtype: torch.dtype) -> None:
        self.samples, self.rows, self.columns, self.dtype = samples, rows, columns, dtype

    def product(self, vectors: Tensor) -> Tensor:
        return torch.zeros(self.samples, self.rows, dtype=self.dtype)

    def transposed_product(self, vectors: Tensor) -> Tensor:
        return torch.zeros(self.samples, self.columns, dtype=self.dtype)


def operators(trace: Trace, steps: Sequence[Step]) -> tuple[list[Map], bool]:
    """The Jacobian of each step, and whether samples stay apart all the way.

    Where they mix in one step (batch norm in train mode, nodes of a graph), the batch is one sample everywhere.

    Raises:
        UserError: as `layerlab.gradflow.jacobians.between`.
    """
    count = {t.shape[0] if t.ndim else 0 for step in steps for t in trace.tensors(step.start)}
    last = trace.tensor(steps[-1].stop)
    count.add(last.shape[0] if last.ndim else 0)
    samples = count.pop() if len(count) == 1 else 0
    if samples == 1:
        return [_operator(trace, step, None) for step in steps], True
    if samples:
        found = []
        for step in steps:
            found.append(_operator(trace, step, samples))
            if found[-1].samples != samples:
                break
        else:
            return found, True
    return [_operator(trace, step, None) for step in steps], False


def _operator(trace: Trace, step: Step, samples: int | None) -> Map:
    if trace.passes(step.start, step.stop):
        return _Attached(between(trace, step.start, step.stop, batch_dim=None if samples is None else "auto"))
    x, y = trace.tensors(step.start), trace.tensor(step.stop)
    count = samples or 1
    return _Cut(count, y.numel() // count, sum(t.numel() for t in x) // count, y.dtype)


def step_ends(operator: LinearMap, *, tolerance: float, budget: int, seed: int) -> Ends:
    """σ_max and σ_min of the Jacobian of a step.

    Exact where the Jacobian is diagonal or small. Otherwise Lanczos' method until σ_max has a relative residual of
    ``tolerance``; σ_min is then what is known of it by that time, an upper bound.
    """
    diagonal = _diagonal(operator)
    if diagonal is not None:
        sizes = diagonal.abs().double().cpu().numpy()
        return Ends(sizes.max(1), np.zeros(len(sizes)), sizes.min(1), True, "diagonal")
    size = min(operator.rows, operator.columns)
    small = size <= DENSE_UP_TO
    found = extreme_singular_values(
        operator,
        smallest="bound",
        method="dense" if small else "lanczos",
        tolerance=tolerance,
        budget=max(budget, size) if small else budget,
        seed=seed,
    )
    assert found.smallest is not None
    return Ends(
        found.largest.value,
        _relative(found.largest.residual, found.largest.value),
        found.smallest.value,
        found.method == "dense",
        found.method,
    )


def _diagonal(operator: LinearMap) -> Tensor | None:
    """The diagonal of a Jacobian that is diagonal: then J v = (J 1) ∘ v, for a random v almost surely only then."""
    if operator.rows != operator.columns:
        return None
    shape = (operator.samples, operator.columns)
    generator = torch.Generator().manual_seed(3)
    v = torch.randn(shape, generator=generator, dtype=operator.dtype)
    diagonal = operator.product(torch.ones(shape, dtype=operator.dtype)).cpu()
    image = operator.product(v).cpu()
    near = 10 * torch.finfo(operator.dtype).eps
    return diagonal if torch.allclose(image, diagonal * v, rtol=near, atol=near * 1e-30) else None


def product_ends(factors: Sequence[LinearMap], *, tolerance: float, budget: int, seed: int) -> Iterator[Ends]:
    """log σ_max and log σ_min of J_i ⋯ J_1 for i = 1, …, L.

    Small factors are formed, and their product at norm 1 with its logarithm apart. Of large ones σ_max alone is sought
    (`layerlab.gradflow.prefixes`).
    """
    if all(min(factor.rows, factor.columns) <= DENSE_UP_TO for factor in factors):
        yield from _dense_products(factors)
        return
    for found in largest_of_prefixes(factors, tolerance=tolerance, budget=budget, seed=seed):
        yield Ends(found.log, found.error, None, False, "lanczos")


def _dense_products(factors: Sequence[LinearMap]) -> Iterator[Ends]:
    product: Tensor | None = None
    log = torch.zeros(factors[0].samples, dtype=torch.float64)
    eps = max(float(torch.finfo(factor.dtype).eps) for factor in factors)
    for factor in factors:
        product = dense(factor) if product is None else dense(factor) @ product
        if product.shape[2] > product.shape[1]:
            # P = R'Q' with Q' orthogonal: R' has the singular values of P, and all that is to come acts on it.
            product = torch.linalg.qr(product.mT)[1].mT
        norms = torch.linalg.matrix_norm(product)
        log = log + torch.log(norms)
        product = product / torch.where(norms > 0, norms, 1.0)[:, None, None]
        values = torch.linalg.svdvals(product)
        largest, smallest = values[:, 0], values[:, -1]
        # What rounding of the products may have put in the place of a smaller one.
        floor = 10 * torch.finfo(torch.float64).eps * values.shape[1] * largest
        if values.shape[1] < min(factor.rows, factors[0].columns):
            # Narrower on the way than at both ends: there are zeros besides.
            smallest = floor = torch.zeros_like(largest)
        yield Ends(
            (torch.log(largest) + log).numpy(),
            np.full(len(values), 10 * eps * values.shape[1] ** 0.5),
            (torch.log(torch.maximum(smallest, floor)) + log).numpy(),
            bool(((smallest > floor) | (floor == 0)).all()),
            "dense",
        )


def backward(
    trace: Trace,
    steps: Sequence[Step],
    factors: Sequence[Map],
    model: object,
    cotangents: Sequence[Tensor],
) -> Backward:
    """Gradients at every bottleneck and of every weight, in root mean square over the cotangents.

    Carried from step to step at norm 1 with the logarithm apart, so that depth does not underflow.

    Args:
        trace: the recorded pass.
        steps: of it.
        factors: their Jacobians.
        model: the module, for its parameters.
        cotangents: gradients of the loss by the output, in its shape; or random ones.

    Raises:
        UserError: a derivative that is not finite; the layer is named.
    """
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    squares: list[list[Values]] = []
    weights: list[dict[str, list[float]]] = [{} for _ in steps]
    for cotangent in cotangents:
        flat = cotangent.detach().reshape(factors[-1].samples, factors[-1].rows).cpu().double()
        vector, log = _normalised(flat)
        logs = [log]
        for index in range(len(steps) - 1, -1, -1):
            found = _weight_gradients(trace, steps[index], modules, vector, log)
            for name, size in found.items():
                weights[index].setdefault(name, []).append(size)
            vector = factors[index].transposed_product(vector).cpu().double()
            if not bool(torch.isfinite(vector).all()):
                raise UserError(
                    f"the derivative of {steps[index].name} ({steps[index].kind}) is not finite at these inputs: it "
                    "overflows or is undefined, as that of log and sqrt at 0"
                )
            vector, change = _normalised(vector)
            log = log + change
            logs.append(log)
        squares.append([2 * entry for entry in reversed(logs)])
    gradients = np.array(
        [[_log_mean([s[i][b] for s in squares]) / 2 for b in range(len(log))] for i in range(len(steps) + 1)]
    )
    parameters = dict(model.named_parameters(remove_duplicate=False)) if isinstance(model, nn.Module) else {}
    sizes = tuple(
        {
            name: (_log_mean([2 * v for v in found]) / 2, _log_norm(parameters[name]))
            for name, found in entry.items()
        }
        for entry in weights
    )
    return Backward(gradients, sizes)


def _weight_gradients(
    trace: Trace,
    step: Step,
    modules: dict[str, nn.Module],
    vector: Tensor,
    log: Values,
) -> dict[str, float]:
    """log ‖∂/∂W‖ of each weight that an operation of the step can use."""
    # All of a module that runs within the step, for it may use its parts' weights without calling them; of one that
    # goes on beyond the step its own.
    owners = {owner: owner in step.modules for owner in [*(o.module for o in step.operations), *step.modules]}
    named = {
        f"{owner}.{name}".lstrip("."): parameter
        for owner, within in owners.items()
        if owner in modules
        for name, parameter in modules[owner].named_parameters(recurse=within)
        if parameter.requires_grad
    }
    top = float(log.max(initial=-np.inf))
    if not named or top == -np.inf:
        return dict.fromkeys(named, -np.inf)
    y = trace.tensor(step.stop)
    if not y.requires_grad:
        return dict.fromkeys(named, -np.inf)
    u = (vector * torch.exp(torch.from_numpy(log - top))[:, None]).reshape(y.shape).to(y)
    grads = torch.autograd.grad(y, list(named.values()), u, retain_graph=True, allow_unused=True)
    return {name: top + _log_norm(grad) for name, grad in zip(named, grads, strict=True) if grad is not None}


def random_cotangents(y: Tensor, count: int, seed: int) -> list[Tensor]:
    """Standard normal directions in the shape of the output, of norm about 1 for each sample."""
    generator = torch.Generator().manual_seed(seed)
    scale = (y.shape[0] if y.ndim else 1) ** 0.5 / max(y.numel(), 1) ** 0.5
    return [
        torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) * scale for _ in range(count)
    ]


def loss_cotangent(y: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of ``loss(y)`` by y.

    Raises:
        UserError: the loss raises, or gives no finite number that depends on y.
    """
    leaf = y.detach().requires_grad_()
    with torch.enable_grad(), user_code("the loss raised"):
        value = loss(leaf)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"expected the loss to give one number that depends on the output, got {got}")
    if not bool(torch.isfinite(value).all()):
        raise UserError(f"the loss of this output is {value.item()}")
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    return grad


def _normalised(vectors: Tensor) -> tuple[Tensor, Values]:
    norms = vectors.norm(dim=1)
    with np.errstate(divide="ignore"):
        return vectors / torch.where(norms > 0, norms, 1.0)[:, None], np.log(norms.numpy())


def _log_norm(tensor: Tensor) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(float(tensor.detach().double().norm())))


def _log_mean(logs: Sequence[float]) -> float:
    """log of the mean of the numbers with these logarithms."""
    top = max(logs)
    return top if top == -np.inf else top + float(np.log(np.mean(np.exp(np.array(logs) - top))))


def _relative(residual: Values, value: Values) -> Values:
    return np.asarray(residual / np.where(value > 0, value, 1.0))
