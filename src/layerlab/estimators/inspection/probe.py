"""A first look at a user's function: is it deterministic, how long does it take, has it a derivative?"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.calls import Calls
from layerlab.estimators.families import Family
from layerlab.estimators.values import differentiated

_MOST, _LEAST, _SECONDS = 512, 16, 2.0

# Differences of this share of the values are rounding: sums of another order.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Probe:
    """What a few evaluations tell.

    Attributes:
        deterministic: the same samples gave the same values.
        alone: a sample's value does not depend on the samples beside it, as far as an f that is not deterministic
            lets it be seen.
        noise: mean of Var(f | x); 0 when deterministic.
        noise_in_score: mean of Var(f | x) |s(x)|^2: what it adds to the variance of one sample's estimate.
        seconds: for one evaluation, in a batch.
        no_slopes: why there is no derivative of f; empty where there is one.
    """

    deterministic: bool
    alone: bool
    noise: float
    noise_in_score: float
    seconds: float
    no_slopes: str

    @property
    def tabulable(self) -> bool:
        """A table of values stands for f."""
        return self.deterministic and self.alone


def probe(calls: Calls, family: Family, generator: torch.Generator) -> Probe:
    """Evaluate f at the same samples twice, then in another order.

    Raises:
        UserError: as `layerlab.estimators.values.evaluated`.
    """
    start = time.perf_counter()
    calls.values(family.sample(2, generator))
    seconds = (time.perf_counter() - start) / 2
    count = int(max(_LEAST, min(_MOST, _SECONDS / 3 / max(seconds, 1e-9))))
    x = family.sample(count, generator)
    before = calls.seconds
    first = calls.values(x)
    seconds = (calls.seconds - before) / count
    second = calls.values(x)
    # Another order and another number of samples: mixes of both kinds show.
    turned = calls.values(x.flip(0)[1:]).flip(0)
    noise = (first - second).square() / 2
    scale = float(first.abs().max()) + float((first - first.mean()).abs().max())
    alone = bool(((turned - first[:-1]).abs() <= _ROUNDING * scale).all())
    deterministic = bool((first == second).all())
    lengths = family.score(x).double().square().flatten(1).sum(-1)
    return Probe(
        deterministic,
        alone or not deterministic,
        float(noise.mean()),
        float((noise * lengths).mean()),
        seconds,
        _why_no_slopes(calls, x),
    )


def _why_no_slopes(calls: Calls, x: Tensor) -> str:
    if not x.is_floating_point():
        return "it takes whole numbers, which have no derivative"
    try:
        differentiated(calls, x[:2])
    except UserError as error:
        return "f is not differentiable by autograd" if "autograd" in str(error) else str(error)
    return ""
