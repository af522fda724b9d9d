"""What an estimate of 64 samples costs beyond f itself, and the floor of that."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from layerlab.estimators import Bernoulli, Categorical, Family, Gaussian, estimate
from layerlab.estimators.estimation import ESTIMATORS

BATCH, SIZE, VALUES = 64, 64, 4


def families() -> dict[str, Family]:
    """One family of each kind with 64 variables."""
    return {
        "64 bits": Bernoulli(torch.zeros(SIZE, dtype=torch.float64)),
        "64 variables of 4 values": Categorical(torch.zeros(SIZE, VALUES, dtype=torch.float64), one_hot=True),
        "64 real numbers": Gaussian(torch.zeros(SIZE, dtype=torch.float64), 0.0),
    }


def cheap(x: Tensor) -> Tensor:
    """A sum: differentiable, and as quick as a function can be."""
    return x.flatten(1).sum(1)


class _Calls(TorchDispatchMode):
    """Counts torch's operations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def measure(repetitions: int) -> list[dict[str, Any]]:
    """Seconds beyond f of every estimator that needs no options, and torch's operations in it."""
    call = cheapest_call()
    rows = []
    for title, family in families().items():
        for name, estimator in ESTIMATORS.items():
            if estimator.refusal(family) is not None or estimator.needs:
                continue
            generator = torch.Generator().manual_seed(0)

            def one(
                name: str = name, family: Family = family, generator: torch.Generator = generator
            ) -> float:
                return estimate(cheap, family, BATCH, generator, name).diagnostics.overhead_seconds

            one()
            seconds = [one() for _ in range(repetitions)]
            with _Calls() as calls:
                one()
            rows.append(
                {
                    "family": title,
                    "estimator": name,
                    "differentiable": estimator.differentiable,
                    "median_seconds": statistics.median(seconds),
                    "decile_seconds": [float(f"{each:.3g}") for each in statistics.quantiles(seconds, n=10)],
                    "operations": calls.count,
                    "floor_seconds": calls.count * call,
                }
            )
    return rows


def cheapest_call() -> float:
    """Seconds of torch's cheapest operation from Python on one number, the best of many blocks."""
    x, best = torch.zeros(1), float("inf")
    for _ in range(50):
        started = time.perf_counter()
        for _ in range(100):
            torch.neg(x)
        best = min(best, (time.perf_counter() - started) / 100)
    return best
