"""Is an estimator biased? A test with a number of repetitions fixed beforehand, coordinate by coordinate.

``z_i = (mean of R estimates - reference)_i / standard error``, and the largest ``|z_i|`` is held against the quantile
of Student's distribution at ``level / (2 coordinates)`` (Bonferroni): an unbiased estimator fails in at most a share
``level`` of all tests, whatever the dependence between coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from layerlab.errors import UserError

LEVEL = 1e-3
"""Chance that an unbiased estimator fails."""

# Differences of this share of the numbers themselves are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class BiasTest:
    """What a test of bias found.

    Attributes:
        z: the largest ``|z|`` of all coordinates; infinite for a constant estimate that is off.
        limit: what it is held against.
        p: probability of such a z or a larger one without bias, at most 1 (after Bonferroni's correction).
        at: number of that coordinate, in the flattened parameters.
        bias: the estimate of the bias there, in the unit of the gradient.
        norm: square root of an unbiased estimate of the squared length of the bias; 0 where that is negative.
        repetitions: R.
    """

    z: float
    limit: float
    p: float
    at: int
    bias: float
    norm: float
    repetitions: int

    @property
    def passed(self) -> bool:
        """No bias was seen. A bias that is small against the standard error is not seen."""
        return self.z <= self.limit


def bias_test(
    estimates: Tensor, reference: Tensor, reference_error: Tensor | None = None, *, level: float = LEVEL
) -> BiasTest:
    """Test independent estimates against the gradient.

    Args:
        estimates: ``(R, *parameters)``, independent repetitions, R at least 8 and fixed beforehand.
        reference: ``(*parameters)``: the exact gradient, or an unbiased estimate that is independent of these.
        reference_error: ``(*parameters)``: its standard error, if it is an estimate.
        level: chance that an unbiased estimator fails.

    Raises:
        UserError: fewer than 8 repetitions, a reference of another shape, or a level that is no probability.

    >>> noise = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> bias_test(noise, torch.zeros(3)).passed, bias_test(noise + 0.3, torch.zeros(3)).passed
    (True, False)
    """
    count = len(estimates)
    if count < 8:
        raise UserError(f"expected at least 8 repetitions to test a bias, got {count}")
    if not 0 < level < 1:
        raise UserError(f"expected a level between 0 and 1, got {level}; take e.g. {LEVEL}")
    for name, given in (("reference", reference), ("reference_error", reference_error)):
        # One number would be taken for all coordinates.
        if given is not None and given.shape != estimates.shape[1:]:
            raise UserError(
                f"expected a {name} of the shape of an estimate, {tuple(estimates.shape[1:])}, got {tuple(given.shape)}"
            )
    found = estimates.double().reshape(count, -1)
    wanted = reference.double().reshape(-1)
    off = found.mean(0) - wanted
    squared = found.var(0) / count
    if reference_error is not None:
        squared = squared + reference_error.double().reshape(-1) ** 2
    error = squared.sqrt()
    rounding = _ROUNDING * (found.abs().amax(0) + wanted.abs() + torch.finfo(torch.float64).tiny)
    # A constant estimate has no standard error: it is on the spot or it is off.
    z = torch.where(
        off.abs() <= rounding,
        torch.zeros_like(off),
        torch.where(error > 0, off.abs() / error, torch.full_like(off, math.inf)),
    )
    at = int(z.argmax())
    worst, coordinates = float(z[at]), len(z)
    limit = float(stdtrit(count - 1, 1 - level / (2 * coordinates)))
    p = min(1.0, 2 * coordinates * float(stdtr(count - 1, -worst)))
    length = math.sqrt(max(0.0, float((off**2 - squared).sum())))
    return BiasTest(worst, limit, p, at, float(off[at]), length, count)
