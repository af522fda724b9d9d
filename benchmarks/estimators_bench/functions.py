"""The ten functions on which optimisers are compared, all to be maximised: fixed before anything was run on them.

Every function takes a batch, ``(n, size)`` tensors of 0/1 (bits), of value indices (categories) or of real numbers
(gaussian), and returns n values. Random instances are drawn from one seed, 7.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SEED = 7
Values = torch.Tensor


@dataclass(frozen=True)
class Problem:
    """A function and the space of its arguments.

    Attributes:
        name: as in the tables.
        kind: ``bits``, ``categories`` or ``gaussian``.
        size: how many variables.
        values: how many values each has (categories only).
        make: builds the function.
        budget: evaluations that each optimiser may spend.
        best: the greatest value, where it is known.
        about: one line.
    """

    name: str
    kind: str
    size: int
    make: Callable[[], Callable[[torch.Tensor], Values]]
    about: str
    budget: int = 5000
    best: float | None = None
    values: int = 2


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *name.encode()])


def _double(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def onemax() -> Callable[[torch.Tensor], Values]:
    return lambda x: x.double().sum(dim=1)


def leading_ones() -> Callable[[torch.Tensor], Values]:
    return lambda x: x.double().cumprod(dim=1).sum(dim=1)


def trap(block: int = 4) -> Callable[[torch.Tensor], Values]:
    """Blocks of four: all ones give 4, else 3 minus the ones: the gradient points away from the best."""

    def f(x: torch.Tensor) -> Values:
        ones = x.double().reshape(len(x), -1, block).sum(dim=2)
        return torch.where(ones == block, float(block), block - 1 - ones).sum(dim=1)

    return f


def max_cut(nodes: int = 40, degree: float = 6.0) -> Callable[[torch.Tensor], Values]:
    """A random graph with random weights in [0, 1]."""
    draw = _rng("maxcut")
    pairs = np.array(list(itertools.combinations(range(nodes), 2)))
    pairs = pairs[draw.random(len(pairs)) < degree / (nodes - 1)]
    weights = _double(draw.random(len(pairs)))
    left, right = torch.from_numpy(pairs[:, 0]), torch.from_numpy(pairs[:, 1])
    return lambda x: (x[:, left] != x[:, right]).double() @ weights


def max_sat(variables: int = 50, clauses: int = 215) -> Callable[[torch.Tensor], Values]:
    """Random 3-SAT at 4.3 clauses a variable, where it is hardest: the number of satisfied clauses."""
    draw = _rng("sat")
    chosen = torch.from_numpy(
        np.stack([draw.choice(variables, size=3, replace=False) for _ in range(clauses)])
    )
    signs = torch.from_numpy(draw.integers(0, 2, size=(clauses, 3)))
    return lambda x: (x[:, chosen].long() == signs).any(dim=2).double().sum(dim=1)


def nk_landscape(size: int = 40, neighbours: int = 4) -> Callable[[torch.Tensor], Values]:
    """Kauffman's NK: each bit's share is a random number looked up by itself and four others."""
    draw = _rng("nk")
    others = np.stack(
        [draw.choice([j for j in range(size) if j != i], size=neighbours, replace=False) for i in range(size)]
    )
    members = torch.from_numpy(np.column_stack([np.arange(size), others]))
    table = _double(draw.random((size, 2 ** (neighbours + 1))))
    powers = 2 ** torch.arange(neighbours + 1)

    def f(x: torch.Tensor) -> Values:
        row = (x[:, members].long() * powers).sum(dim=2)
        return table[torch.arange(size), row].mean(dim=1)

    return f


@cache
def _cancer() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    fold = _rng("features").permutation(len(data.target)) % 5
    features = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    return features, 2.0 * data.target - 1.0, fold


def feature_selection() -> Callable[[torch.Tensor], Values]:
    """Breast cancer of Wisconsin, 30 features: accuracy of a ridge classifier over five folds, 0.002 a feature."""
    features, target, fold = _cancer()

    def one(chosen: NDArray[np.bool_]) -> float:
        x = np.column_stack([features[:, chosen], np.ones(len(target))])
        right = 0
        for k in range(5):
            train, held_out = fold != k, fold == k
            gram = x[train].T @ x[train] + np.eye(x.shape[1])
            weights = np.linalg.solve(gram, x[train].T @ target[train])
            right += int((np.sign(x[held_out] @ weights) == target[held_out]).sum())
        return right / len(target) - 0.002 * float(chosen.sum())

    return lambda x: torch.tensor([one(row) for row in x.numpy() > 0.5], dtype=torch.float64)


def colouring(nodes: int = 40, degree: float = 7.0) -> Callable[[torch.Tensor], Values]:
    """Minus the edges of a random graph whose ends have one colour, of four."""
    draw = _rng("colouring")
    pairs = np.array(list(itertools.combinations(range(nodes), 2)))
    pairs = pairs[draw.random(len(pairs)) < degree / (nodes - 1)]
    left, right = torch.from_numpy(pairs[:, 0]), torch.from_numpy(pairs[:, 1])
    return lambda x: -(x[:, left] == x[:, right]).double().sum(dim=1)


def rosenbrock() -> Callable[[torch.Tensor], Values]:
    """Minus Rosenbrock's valley; the best point is (1, ..., 1)."""

    def f(x: torch.Tensor) -> Values:
        x = x.double()
        return -(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)

    return f


def rastrigin(size: int = 10) -> Callable[[torch.Tensor], Values]:
    """Minus Rastrigin's function about a point that is not the origin, where optimisers start."""
    centre = _double(_rng("rastrigin").uniform(-2, 2, size=size))

    def f(x: torch.Tensor) -> Values:
        y = x.double() - centre
        return -(10 * size + (y**2 - 10 * torch.cos(2 * torch.pi * y)).sum(dim=1))

    return f


PROBLEMS = (
    Problem("OneMax", "bits", 64, onemax, "how many of 64 bits are one", best=64.0),
    Problem("LeadingOnes", "bits", 32, leading_ones, "how many ones before the first zero", best=32.0),
    Problem("deceptive trap", "bits", 32, trap, "eight blocks of four; the slope leads away", best=32.0),
    Problem("MaxCut", "bits", 40, max_cut, "weighted random graph of 40 nodes"),
    Problem("MAX-3-SAT", "bits", 50, max_sat, "215 random clauses over 50 variables"),
    Problem("NK landscape", "bits", 40, nk_landscape, "N = 40, K = 4"),
    Problem("feature selection", "bits", 30, feature_selection, "breast cancer data, ridge classifier"),
    Problem("graph colouring", "categories", 40, colouring, "four colours for 40 nodes", values=4),
    Problem("Rosenbrock", "gaussian", 10, rosenbrock, "a bent valley in ten dimensions", best=0.0),
    Problem("Rastrigin", "gaussian", 10, rastrigin, "many local optima in ten dimensions", best=0.0),
)
