"""Small problems whose expectations are known exactly."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from layerlab.estimators.families import Bernoulli, Categorical, Family


@dataclass(frozen=True)
class Small:
    """A distribution with few outcomes, and a function of them without any structure."""

    family: Family

    @property
    def outcomes(self) -> Tensor:
        found = self.family.outcomes()
        assert found is not None
        return found

    @property
    def p(self) -> Tensor:
        return self.family.log_prob(self.outcomes).exp()

    @property
    def values(self) -> Tensor:
        generator = torch.Generator().manual_seed(11)
        return torch.randn(len(self.outcomes), generator=generator, dtype=torch.float64) + 0.7

    def f(self, x: Tensor) -> Tensor:
        """By table, so it is whatever the samples are: bits or categories, of any batch."""
        base = 2 if self.family.kind == "bernoulli" else self.family.parameters.shape[-1]
        digits = x.long()
        index = torch.zeros_like(digits[..., 0])
        for d in range(digits.shape[-1]):
            index = index * base + digits[..., d]
        return self.values[index]

    def gradient(self) -> Tensor:
        weights = self.family.spread(self.p * self.values)
        return (weights * self.family.score(self.outcomes)).sum(0)

    def replicas(self, count: int) -> Family:
        """A batch of ``count`` copies of the distribution: as many estimates in one call."""
        like = self.family.parameters
        return type(self.family)(like.expand(count, *like.shape))

    def tuples(self, k: int) -> tuple[Family, Tensor, Tensor]:
        """All samples of size k as rows of a batch: the family, x ``(k, rows, *event)``, probabilities ``(rows,)``."""
        rows = torch.tensor(list(itertools.product(range(len(self.p)), repeat=k)))
        return self.replicas(len(rows)), self.outcomes[rows].movedim(1, 0), self.p[rows].prod(-1)


SMALL = {
    "bits": Small(Bernoulli([0.4, -1.3, 2.0])),
    "categories": Small(Categorical([[0.1, -0.5, 1.2], [0.3, 0.3, -2.0]])),
}


@pytest.fixture(params=list(SMALL))
def small(request: pytest.FixtureRequest) -> Small:
    return SMALL[request.param]


@pytest.fixture
def bits() -> Small:
    return SMALL["bits"]
