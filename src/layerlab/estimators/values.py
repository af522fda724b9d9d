"""Calling a user's f: any Python callable that takes a batch of samples and returns one number for each.

f may be slow, noisy, not differentiable, or wrong. It gets its own copy of the samples, is called without recording
gradients unless they are asked for, and what it raises or returns is checked before it can spoil an estimate.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.subjects import user_code

Function = Callable[[Tensor], Any]


class Meter:
    """A function that counts: how many samples it was given and how long it took.

    Attributes:
        evaluations: samples so far (rows of the first dimension).
        seconds: wall time inside the function, and inside its derivative, so far.

    >>> meter = Meter(lambda x: x.sum(-1))
    >>> evaluated(meter, torch.ones(5, 3)).tolist(), meter.evaluations
    ([3.0, 3.0, 3.0, 3.0, 3.0], 5)
    """

    def __init__(self, f: Function) -> None:
        if not callable(f):
            raise UserError(f"expected a function of a batch of samples, got {type(f).__name__}")
        self.f = f
        self.evaluations = 0
        self.seconds = 0.0

    def __call__(self, samples: Tensor) -> Any:
        self.evaluations += len(samples)
        with self.timed():
            return self.f(samples)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the seconds inside the ``with`` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def evaluated(f: Function, samples: Tensor, batch_shape: tuple[int, ...] = ()) -> Tensor:
    """The values of f at ``samples``, checked.

    Args:
        f: takes a tensor like ``samples``; returns n numbers (times the batch): tensor, numpy array or list.
        samples: ``(n, *batch, *event)``. f gets a copy, which it may overwrite.
        batch_shape: the shape of the batch of distributions.

    Returns:
        ``(n, *batch)``, float64, on the device of the samples.

    Raises:
        UserError: f raises (with file and line), or returns another shape, NaN or infinity (with the sample), complex
            numbers, or something that is no number.

    >>> evaluated(lambda x: [True, 2, 0.5], torch.zeros(3, 4)).tolist()
    [1.0, 2.0, 0.5]
    >>> evaluated(lambda x: x.sum(-1, keepdim=True), torch.zeros(3, 4))
    Traceback (most recent call last):
    layerlab.errors.UserError: f returned the shape (3, 1); expected (3,), one number for each sample: add .squeeze(-1)
    """
    with torch.no_grad(), user_code("f raised"):
        returned = f(samples.clone())
    return checked(returned, samples, batch_shape)


def differentiated(f: Function, points: Tensor, batch_shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """The values of f at ``points`` and its derivative there.

    Args:
        f: as in `evaluated`, and differentiable by autograd.
        points: ``(n, *batch, *event)``, floating.
        batch_shape: the shape of the batch of distributions.

    Returns:
        values ``(n, *batch)``, float64; slopes df/dx, in the shape and dtype of ``points``.

    Raises:
        UserError: as `evaluated`; or autograd finds no way from what f returns to what it was given; or the derivative
            is not finite.

    >>> values, slopes = differentiated(lambda x: x.square().sum(-1), torch.tensor([[1.0, 2.0]]))
    >>> values.tolist(), slopes.tolist()
    ([5.0], [[2.0, 4.0]])
    """
    with torch.enable_grad():
        leaf = points.detach().clone().requires_grad_()
        # f may write into what it is given, but not into a leaf.
        with user_code("f raised"):
            returned = f(leaf * 1)
        values = checked(returned, points, batch_shape)
        if not isinstance(returned, Tensor) or not returned.requires_grad:
            raise UserError(
                f"this estimator needs the derivative of f, but f returned {_kind_of(returned)} that autograd "
                "cannot follow to the samples; write f with torch operations, or take an estimator that needs "
                "values only, such as leave-one-out"
            )
        timed = f.timed() if isinstance(f, Meter) else contextlib.nullcontext()
        with timed, user_code("the derivative of f raised"):
            (slopes,) = torch.autograd.grad(returned.sum(), leaf, allow_unused=True)
    if slopes is None:
        slopes = torch.zeros_like(points)
    if not all_finite(slopes):
        at = int((~torch.isfinite(slopes)).nonzero()[0, 0])
        raise UserError(f"the derivative of f is not finite at sample {at}: {_shown(points[at])}")
    return values, slopes


def checked(returned: Any, samples: Tensor, batch_shape: tuple[int, ...] = ()) -> Tensor:
    """What f returned for ``samples``, as float64 ``(n, *batch)``; see `evaluated`."""
    values = _as_tensor(returned, "f").detach().to(samples.device)
    expected = (len(samples), *batch_shape)
    if tuple(values.shape) != expected:
        mend = ": add .squeeze(-1)" if tuple(values.shape) == (*expected, 1) else ""
        raise UserError(
            f"f returned the shape {tuple(values.shape)}; expected {expected}, one number for each sample{mend}"
        )
    values = values.to(torch.float64)
    if not all_finite(values):
        at = tuple((~torch.isfinite(values)).nonzero()[0].tolist())
        place = at[0] if len(at) == 1 else at
        raise UserError(
            f"f returned {float(values[at]):g} for sample {place}: {_shown(samples[at])}; expected finite numbers"
        )
    return values


def all_finite(numbers: Tensor) -> bool:
    """Whether no entry is NaN or infinite. A sum is quicker than a test of each, and may overflow where none has.

    >>> all_finite(torch.tensor([3e38, 3e38])), all_finite(torch.tensor([0.0, torch.nan]))
    (True, False)
    """
    return math.isfinite(float(numbers.sum())) or bool(torch.isfinite(numbers).all())


def baseline_numbers(returned: Any, batch_shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A baseline, one number or one for each row of the batch, as finite float64 ``(*batch)``.

    >>> baseline_numbers(0.5, (2,), torch.device("cpu")).tolist()
    [0.5, 0.5]
    """
    given = _as_tensor(returned, "the baseline").detach().to(device, torch.float64)
    if given.ndim and tuple(given.shape) != tuple(batch_shape):
        raise UserError(
            f"expected a baseline of one number, or of the shape {tuple(batch_shape)} of the batch, got "
            f"{tuple(given.shape)}"
        )
    if not bool(torch.isfinite(given).all()):
        raise UserError("expected a finite baseline, got NaN or infinity")
    return given.expand(batch_shape)


def _as_tensor(returned: Any, who: str) -> Tensor:
    if isinstance(returned, list | tuple) and any(isinstance(one, Tensor) for one in returned):
        with user_code(f"stacking the list that {who} returned raised"):
            returned = torch.stack([torch.as_tensor(one) for one in returned])
    if isinstance(returned, Tensor):
        if returned.is_complex():
            raise UserError(f"{who} returned complex numbers; expected real ones: return .real or .abs()")
        return returned
    try:
        array = np.asarray(returned)
    except ValueError:
        raise UserError(
            f"{who} returned a {type(returned).__name__} of rows of unequal length; expected real numbers"
        ) from None
    if array.dtype.kind == "c":
        raise UserError(f"{who} returned complex numbers; expected real ones: return .real or abs()")
    if array.dtype.kind == "O" and all(isinstance(one, numbers.Real) for one in array.flat):
        return torch.from_numpy(array.astype(np.float64))  # integers beyond 64 bits
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{who} returned {_kind_of(returned)}; expected real numbers, as a tensor, array or list"
        )
    return torch.from_numpy(array.astype(np.float64))


def _kind_of(returned: Any) -> str:
    if isinstance(returned, Tensor):
        return f"a tensor of {returned.dtype}"
    return "None" if returned is None else f"a {type(returned).__name__}"


def _shown(sample: Tensor) -> str:
    entries = [f"{number:g}" for number in sample.flatten()[:12].tolist()]
    return f"[{', '.join(entries)}{', ...' if sample.numel() > 12 else ''}]"
