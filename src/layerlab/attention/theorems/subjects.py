"""What the claims are checked on: single heads in float64, made of fixed numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.attention import reference

FINITE = "all numbers are float64 and finite, and at most 1e100 in magnitude"
DENSE = "at most 1,000 queries and keys (dense work)"
LARGEST, MOST = 1e100, 1000


@dataclass(frozen=True)
class Head:
    """One head: q ``(n, d)``, k ``(m, d)`` and v ``(m, e)``, float64.

    Args:
        q: the queries.
        k: the keys.
        v: the values.
        causal: query i sees keys j <= i.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    causal: bool = False

    def unmet(self) -> str | None:
        """The first hypothesis on shapes and numbers that is not satisfied."""
        (n, d), (m, d_keys), (m_values, e) = (
            (*tensor.shape, 0, 0)[:2] for tensor in (self.q, self.k, self.v)
        )
        if {self.q.ndim, self.k.ndim, self.v.ndim} != {2} or (d, m) != (d_keys, m_values):
            return "q, k and v are not (n, d), (m, d) and (m, e)"
        if 0 in (n, d, m, e):
            return "there is no query, no key or no feature"
        if self.causal and n != m:
            return f"causal attention of {n} queries to {m} keys"
        if max(n, m) > MOST:
            return f"{max(n, m):,} queries or keys are too many for dense work (up to {MOST:,})"
        return unfit(self.q, self.k, self.v)

    def weights(self, scale: float | None = None) -> Tensor:
        """P = softmax(scale q kᵀ), ``(n, m)``; scale is 1 / √d if None."""
        q, k = self.q[None, None], self.k[None, None]
        return reference.softmax_weights(q, k, causal=self.causal, scale=scale)[0, 0]


def unfit(*tensors: Tensor) -> str | None:
    """Why these numbers cannot be measured with, if they cannot."""
    for tensor in tensors:
        if tensor.dtype is not torch.float64:
            return f"a tensor is {str(tensor.dtype).removeprefix('torch.')}, not float64"
        # A NaN compares with nothing.
        if not bool((tensor.abs() <= LARGEST).all()):
            return f"a number is not finite, or above {LARGEST:g} in magnitude"
    return None


def gaussian(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Independent normal numbers, the same ones every time."""
    return scale * torch.from_numpy(np.random.default_rng([20260103, seed]).standard_normal(shape))


def vector(*values: float) -> Tensor:
    """These numbers."""
    return torch.tensor(values, dtype=torch.float64)


def column(*values: float) -> Tensor:
    """These numbers as a matrix of one column."""
    return vector(*values)[:, None]


def rows(values: Iterable[Iterable[float]]) -> Tensor:
    """The matrix of these rows."""
    return torch.tensor([list(row) for row in values], dtype=torch.float64)


def random_head(
    n: int,
    d: int = 4,
    *,
    keys: int | None = None,
    e: int = 3,
    seed: int = 0,
    scale: float = 1.0,
    causal: bool = False,
) -> Head:
    """A head of normal numbers; queries and keys times ``scale``."""
    m = n if keys is None else keys
    q, k = gaussian(n, d, seed=seed, scale=scale), gaussian(m, d, seed=seed + 1, scale=scale)
    return Head(q, k, gaussian(m, e, seed=seed + 2), causal)


def clustered_head(n: int, rank: int, d: int = 4, *, keys: int | None = None, e: int = 3) -> Head:
    """A head with ``rank`` different queries, so that P has ``rank`` different rows and at most that rank."""
    made = random_head(n, d, keys=keys, e=e)
    return Head(made.q[torch.arange(n) % rank], made.k, made.v)


def low_rank_head(n: int, rank: int, d: int = 6, *, e: int = 3, seed: int = 0) -> Head:
    """A head of which q kᵀ has the given rank: the queries lie in a subspace of that dimension."""
    made = random_head(n, d, e=e, seed=seed)
    factor = gaussian(rank, d, seed=seed + 3) / math.sqrt(rank)
    return Head(made.q[:, :rank] @ factor, made.k, made.v)
