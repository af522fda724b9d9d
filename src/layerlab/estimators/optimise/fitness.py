"""What an estimator is shown in place of f: values on a scale of their own, or ranks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Fitness = Literal["rank", "value"]

_MEMORY = 0.9  # share of the spread of earlier batches that is kept


def utilities(values: Tensor) -> Tensor:
    """Rank utilities of natural evolution strategies: n log-weights of the better half, less their mean.

        u_i = n max(0, log(n/2 + 1) - log(rank_i)) / sum_j max(0, log(n/2 + 1) - log(j)) - 1,

    rank 1 for the largest value; equal values share the mean of theirs. A gradient of their mean is *biased*: it climbs
    the expected utility among the samples of a batch, which no monotone change of f alters.

    Reference: Wierstra et al., Natural evolution strategies, JMLR 15 (2014).

    Args:
        values: ``(n,)`` float64.

    >>> [round(u, 3) for u in utilities(torch.tensor([5.0, 1.0, 1.0, 0.0, -3.0, -9.0], dtype=torch.float64)).tolist()]
    [2.514, 0.243, 0.243, -1.0, -1.0, -1.0]
    """
    n = len(values)
    weights = (
        torch.log(torch.tensor(n / 2 + 1)) - torch.arange(1, n + 1, dtype=torch.float64).log()
    ).clamp_min(0)
    total = torch.cat([torch.zeros(1, dtype=torch.float64), weights.cumsum(0)])
    descending = (-values).sort().values
    first = torch.searchsorted(descending, -values)
    last = torch.searchsorted(descending, -values, right=True)
    return n * (total[last] - total[first]) / (last - first) / total[-1] - 1


class Scale:
    """Divides values by the spread of earlier batches, so that a step does not depend on the unit of f.

    The samples of a batch have no part in the spread that they are divided by, so that no bias comes in; only that of
    the first batch is its own.

    >>> scale = Scale()
    >>> scale(torch.tensor([0.0, 2.0])).tolist(), scale(torch.tensor([0.0, 10.0])).tolist()
    ([0.0, 2.0], [0.0, 10.0])
    """

    def __init__(self) -> None:
        self._square = 0.0
        self._weight = 0.0

    def __call__(self, values: Tensor) -> Tensor:
        """``values`` divided by the root of a running mean of the variances of earlier batches."""
        own = float(values.var(correction=0))
        square = self._square / self._weight if self._weight else own
        self._square = _MEMORY * self._square + own
        self._weight = _MEMORY * self._weight + 1
        return values / square**0.5 if square > 0 else values
