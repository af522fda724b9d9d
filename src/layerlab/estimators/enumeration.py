"""Every outcome of bits or categories, the function's value at each, and the moments that variances are made of.

The variables are independent and the score of a variable depends on its own value only. So all that any variance of a
score-function estimator needs of a function are the sums of ``p(x) f(x)^q`` over the outcomes at which variable d has
the value v, q = 0, 1, 2: a table of (3, dims, k) numbers, whatever the number of outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.space import Space

MOST_OUTCOMES = 1 << 20
"""Spaces of more outcomes are not enumerated."""

Evaluate = Callable[[Tensor], Tensor]
"""A function of a batch of samples that has been checked: ``(n, *event)`` in, ``(n,)`` finite float64 out."""

Progress = Callable[[float, str], None]

_BLOCK = 1 << 13


def outcomes(space: Space, start: int = 0, stop: int | None = None) -> Tensor:
    """Outcomes ``start`` to ``stop``, in the order of counting: the last variable changes fastest.

    Args:
        space: of bits or categories.
        start: number of the first.
        stop: number after the last; all by default.

    Returns:
        ``(stop - start, dims)``: float64 0 and 1 for bits, int64 for categories.

    >>> outcomes(Space.parse(bits=2)).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    total = _countable(space)
    numbers = torch.arange(start, total if stop is None else min(stop, total))
    digits = numbers[:, None] // _powers(space) % space.values
    return digits.double() if space.kind == "bits" else digits


def index(space: Space, samples: Tensor) -> Tensor:
    """The numbers of samples in the order of `outcomes`.

    Args:
        space: of bits or categories.
        samples: ``(n, dims)``.

    Returns:
        ``(n,)`` int64.

    >>> space = Space.parse(categories="2x3")
    >>> index(space, torch.tensor([[0, 2], [2, 1]])).tolist()
    [2, 7]
    """
    return (samples.long() * _powers(space)).sum(-1)


def tabulate(evaluate: Evaluate, space: Space, progress: Progress | None = None) -> Tensor:
    """The value of every outcome; each is evaluated once, some thousands at a time.

    Returns:
        ``(outcomes,)`` float64 in the order of `outcomes`.

    Raises:
        UserError: as ``evaluate``; real numbers, or more than `MOST_OUTCOMES` outcomes.

    >>> tabulate(lambda x: x.sum(-1), Space.parse(bits=2)).tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    total = _countable(space)
    values = torch.empty(total, dtype=torch.float64)
    for start in range(0, total, _BLOCK):
        values[start : start + _BLOCK] = evaluate(outcomes(space, start, start + _BLOCK))
        if progress is not None:
            done = min(start + _BLOCK, total)
            progress(done / total, f"f of {done:,} of {total:,} outcomes")
    return values


def probabilities(space: Space, parameters: Tensor) -> Tensor:
    """Probability of every value of every variable, ``(dims, k)`` float64.

    >>> probabilities(Space.parse(bits=2), torch.zeros(2)).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    logits = parameters.double()
    if space.kind == "bits":
        # 1 - sigmoid would lose its digits where the probability is close to 1.
        return torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=-1)
    return torch.softmax(logits, dim=-1)


def joint(chances: Tensor) -> Tensor:
    """Probability of every outcome from those of every variable's values.

    Args:
        chances: ``(dims, k)``, see `probabilities`.

    Returns:
        ``(k ** dims,)`` in the order of `outcomes`.

    >>> joint(torch.tensor([[0.5, 0.5], [0.25, 0.75]])).tolist()
    [0.125, 0.375, 0.125, 0.375]
    """
    found = chances[0]
    for row in chances[1:]:
        found = (found[:, None] * row).reshape(-1)
    return found


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of f together with one variable at a time, under one distribution.

    Attributes:
        space: of bits or categories.
        chances: ``(dims, k)``, see `probabilities`.
        mean: E f.
        parts: ``(3, dims, k)``: E[(f - mean)^q 1(x_d = v)] for q = 0, 1, 2. From the mean, so that a large constant
            part of f costs no digits.
    """

    space: Space
    chances: Tensor
    mean: float
    parts: Tensor

    @classmethod
    def of(cls, space: Space, values: Tensor, parameters: Tensor) -> Moments:
        """From the table of values.

        Args:
            space: of bits or categories.
            values: ``(outcomes,)``, see `tabulate`.
            parameters: of the shape ``space.shape``.
        """
        chances = probabilities(space, parameters)
        weights = joint(chances)
        shift = values[0]
        mean = float(shift + (weights * (values - shift)).sum())
        offsets = values - mean
        first = weights * offsets
        parts = torch.stack(
            [
                chances,
                _by_variable(first, chances.shape),
                _by_variable(first * offsets, chances.shape),
            ]
        )
        return cls(space, chances, mean, parts)

    @property
    def variance(self) -> float:
        """Var f."""
        return float(self.parts[2, 0].sum())

    def with_score(self, q: int, r: int) -> Tensor:
        """E[(f - mean)^q s^r] for the score s of every parameter, of the shape of the parameters.

        The score of a logit is ``1(x = its value) - probability``.
        """
        if (q, r) not in self._known:
            powers = self._scores**r
            self._known[q, r] = (self.parts[q][:, None] * powers).sum(-1).reshape(self.space.shape)
        return self._known[q, r]

    def gradient(self) -> Tensor:
        """Of E f with respect to the parameters, from conditional means: ``p_c (E[f | x = c] - E f)``."""
        centred = self.parts[1] - self.chances * self.parts[1].sum(-1, keepdim=True)
        return centred[:, 1] if self.space.kind == "bits" else centred

    @cached_property
    def _known(self) -> dict[tuple[int, int], Tensor]:
        """What `with_score` has computed: every estimator asks for the same few."""
        return {}

    @cached_property
    def _scores(self) -> Tensor:
        """``(dims, parameters of a variable, k)``: the score of each parameter at each value."""
        if self.space.kind == "bits":
            return torch.stack([-self.chances[:, 1], self.chances[:, 0]], dim=-1)[:, None]
        return torch.eye(self.space.values, dtype=torch.float64) - self.chances[:, :, None]


def _by_variable(weighted: Tensor, shape: torch.Size) -> Tensor:
    """Sums over the outcomes at which variable d has the value v; every step folds one variable away."""
    dims, k = shape
    found = torch.empty(dims, k, dtype=torch.float64)
    for variable in range(dims):
        folded = weighted.reshape(k, -1)
        found[variable] = folded.sum(1)
        weighted = folded.sum(0)
    return found


def _powers(space: Space) -> Tensor:
    return space.values ** torch.arange(space.size - 1, -1, -1)


def _countable(space: Space) -> int:
    total = space.outcomes
    if total is None or total > MOST_OUTCOMES:
        many = "infinitely many" if total is None else f"{total:,}" if total < 10**15 else "too many"
        raise UserError(
            f"expected at most {MOST_OUTCOMES:,} outcomes to enumerate, got {many}; measure by samples instead"
        )
    return total
