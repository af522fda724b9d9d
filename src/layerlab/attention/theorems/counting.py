"""Counting what a computation costs, exactly: multiplications and additions, and bytes that are alive at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy.special import stdtrit
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from layerlab.lab.models.nested import leaves

What: TypeAlias = Literal["operations", "bytes"]

_LEVEL = 0.999999


class _Live(TorchDispatchMode):
    """Counts the bytes of all storages that operators made and that are still there, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {StorageWeakRef(tensor.untyped_storage()) for _, tensor in leaves((args, kwargs or {}))}
        self.alive = {key: size for key, size in self.alive.items() if not key.expired()}
        for _, tensor in leaves(out):
            storage = tensor.untyped_storage()
            if (key := StorageWeakRef(storage)) not in given:
                self.alive[key] = storage.nbytes()
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


def count(what: What, run: Callable[[], Any]) -> int:
    """What one call costs: operations of its matrix products, or the most bytes alive that it made itself.

    A multiplication and an addition are two operations. The arguments of the call are not counted, its result is.

    >>> a, b = torch.ones(3, 5, device="meta"), torch.ones(5, 2, device="meta")
    >>> count("operations", lambda: a @ b), count("bytes", lambda: a @ b)
    (60, 24)
    """
    with torch.no_grad():
        if what == "operations":
            with FlopCounterMode(display=False) as counter:
                run()
            return counter.get_total_flops()
        with _Live() as live:
            run()
        return live.peak


@dataclass(frozen=True)
class Growth:
    """How counts grow with a size.

    Args:
        exponent: of the leading term of a polynomial of known degree, all lower terms removed.
        fitted: least-squares slope of log count on log size, nothing removed.
        low: lower end of Student's interval (0.999999) of the fitted slope.
        high: upper end.
    """

    exponent: float
    fitted: float
    low: float
    high: float


def growth(sizes: Sequence[int], counts: Sequence[int], degree: int) -> Growth:
    """How counts at doubling sizes grow, were they a polynomial of this degree in the size.

    For T(n) = a_p n^p + … + a_0 the differences T(2n) − 2^i T(n), taken for i = 0 … p − 1 in turn, remove all but
    the leading term: it takes every n^j to (2^j − 2^i) n^j. What is left is a multiple of n^p, so its slope is p up to
    the rounding of logarithms. For any other growth it is another number, infinite where nothing is left.

    >>> sizes = [8, 16, 32, 64, 128]
    >>> found = growth(sizes, [3 * n * n + 5 * n + 7 for n in sizes], degree=2)
    >>> round(found.exponent, 9), round(found.fitted, 2)
    (2.0, 1.93)
    """
    left = list(counts)
    for lower in range(degree):
        left = [after - 2**lower * before for before, after in itertools.pairwise(left)]
    fitted, half = _slope(sizes, counts)
    leading = _slope(sizes[: len(left)], left)[0] if min(left) > 0 else -math.inf
    return Growth(leading, fitted, fitted - half, fitted + half)


def _slope(sizes: Sequence[int], counts: Sequence[int]) -> tuple[float, float]:
    """The least-squares slope of log2 count on log2 size, and the half-width of its interval."""
    x, y = (np.array([math.log2(value) for value in values]) for values in (sizes, counts))
    x -= x.mean()
    spread = float(x @ x)
    slope = float(x @ (y - y.mean())) / spread
    residual = y - y.mean() - slope * x
    freedom = len(sizes) - 2
    deviation = math.sqrt(float(residual @ residual) / freedom / spread)
    return slope, float(stdtrit(freedom, 0.5 + _LEVEL / 2)) * deviation
