"""A user's f as many repetitions at once call it: rows of any batch, in blocks, checked, counted, remembered."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.enumeration import index
from layerlab.estimators.space import Space
from layerlab.estimators.values import Function, checked, evaluated
from layerlab.lab.subjects import user_code

BLOCK = 1 << 12
"""Samples that f is given at once, at most."""

_LARGEST = 1e140


def single(f: Callable[[Tensor], Any]) -> Function:
    """A function of one sample as a function of a batch.

    >>> single(lambda sample: max(sample.tolist()))(torch.tensor([[1.0, 3.0], [2.0, 0.0]]))
    tensor([3., 2.], dtype=torch.float64)
    """

    def batched(samples: Tensor) -> Tensor:
        returned = [f(sample) for sample in samples]
        if any(isinstance(one, Tensor) and one.requires_grad for one in returned):
            return torch.stack([_one_number(one) for one in returned])
        return torch.tensor([float(_one_number(one)) for one in returned], dtype=torch.float64)

    return batched


def _squarable(values: Tensor) -> Tensor:
    largest = float(values.abs().max())
    if largest > _LARGEST:
        raise UserError(
            f"f reaches {largest:g}, the square of which overflows in a variance; divide f by a constant"
        )
    return values


def _one_number(returned: Any) -> Any:
    shape = tuple(getattr(returned, "shape", ()))
    if shape not in ((), (1,)):
        raise UserError(
            f"f returned the shape {shape} for one sample; expected one number (without --single it gets a batch)"
        )
    if isinstance(returned, Tensor):
        return returned.reshape(())
    if shape == () and not hasattr(returned, "__float__"):
        raise UserError(f"f returned a {type(returned).__name__} for one sample; expected one number")
    return returned if shape == () else returned[0]


class Calls:
    """f, counted and timed. Called with samples of a batch of distributions, it gives f their rows.

    What f prints goes to standard error. Values of the very same samples are remembered until `forget`, so that
    estimators which draw alike pay once and are compared on the same draws.

    Args:
        f: takes ``(n, *event)`` samples and returns n numbers.
        event_dims: dimensions of one sample.

    Attributes:
        evaluations: samples that f was given.
        seconds: inside f.

    >>> calls = Calls(lambda x: x.sum(-1))
    >>> calls(torch.ones(2, 3, 4)).shape, calls.evaluations
    (torch.Size([2, 3]), 6)
    """

    def __init__(self, f: Function, event_dims: int = 1) -> None:
        self.f, self.event_dims = f, event_dims
        self.evaluations, self.seconds = 0, 0.0
        self._known: dict[tuple[bytes, torch.Size], Tensor] = {}

    def __call__(self, samples: Tensor) -> Tensor:
        """``(n, *batch, *event)`` to ``(n, *batch)``: float64, or with its derivative where the samples ask for one."""
        event = samples.shape[samples.ndim - self.event_dims :]
        batch = samples.shape[: samples.ndim - self.event_dims]
        rows = samples.reshape(-1, *event)
        if samples.requires_grad:
            return torch.cat([self._differentiable(block) for block in rows.split(BLOCK)]).reshape(batch)
        key = (hashlib.blake2b(rows.numpy().tobytes(), digest_size=16).digest(), samples.shape)
        if key not in self._known:
            self._known[key] = self.values(rows)
        return self._known[key].reshape(batch)

    def values(self, rows: Tensor) -> Tensor:
        """The values of ``(n, *event)`` samples, ``(n,)`` float64; not remembered."""
        found = []
        for block in rows.split(BLOCK):
            start = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                found.append(_squarable(evaluated(self.f, block)))
            self.seconds += time.perf_counter() - start
            self.evaluations += len(block)
        return torch.cat(found)

    def forget(self) -> None:
        """Values are not remembered beyond this point."""
        self._known.clear()

    def _differentiable(self, rows: Tensor) -> Tensor:
        start = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr), user_code("f raised"):
            returned = self.f(rows.clone())  # f may write into what it is given.
        checked(returned, rows)
        self.seconds += time.perf_counter() - start
        self.evaluations += len(rows)
        if not isinstance(returned, Tensor) or not returned.requires_grad:
            raise UserError("autograd finds no way from what f returned to its samples")
        return returned


class Table:
    """f from a table of its values; where a derivative is asked for, or a sample is no outcome, f itself.

    Args:
        space: of bits or categories.
        values: of every outcome, see `layerlab.estimators.enumeration.tabulate`.
        calls: f itself.

    >>> table = Table(Space.parse(bits=2), torch.tensor([0.0, 1.0, 1.0, 2.0]), Calls(lambda x: x.sum(-1)))
    >>> table(torch.tensor([[1.0, 1.0], [0.0, 1.0]])).tolist(), table.calls.evaluations
    ([2.0, 1.0], 0)
    """

    def __init__(self, space: Space, values: Tensor, calls: Calls) -> None:
        self.space, self.held, self.calls = space, values, calls

    def __call__(self, samples: Tensor) -> Tensor:
        """As `Calls`."""
        if samples.requires_grad or (
            samples.is_floating_point() and bool((samples != samples.round()).any())
        ):
            return self.calls(samples)
        return self.held[index(self.space, samples)]

    def forget(self) -> None:
        """See `Calls.forget`."""
        self.calls.forget()
