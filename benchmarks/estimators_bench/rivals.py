"""Random search, simulated annealing, CMA-ES and nevergrad's default, each spending the same number of evaluations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from estimators_bench.functions import Problem

Function = Callable[[torch.Tensor], torch.Tensor]
Rival = Callable[[Problem, "Counted", int], None]
BATCH = 64


class SpentError(Exception):
    """The budget is spent."""


class Counted:
    """A function to be maximised that counts its evaluations and remembers the best so far.

    Attributes:
        best: the greatest value so far.
        curve: the greatest value after each evaluation.
    """

    def __init__(self, function: Function, budget: int) -> None:
        self.function = function
        self.budget = budget
        self.best = -math.inf
        self.curve: list[float] = []

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        """The values of a batch; raises `SpentError` once the budget ends within it, after the part that fits."""
        fits = samples[: self.budget - len(self.curve)]
        values = self.function(fits)
        for value in values.tolist():
            self.best = max(self.best, value)
            self.curve.append(self.best)
        if len(fits) < len(samples) or len(self.curve) == self.budget:
            raise SpentError
        return values

    def one(self, sample: NDArray[Any]) -> float:
        """The value of a single sample."""
        return float(self(torch.from_numpy(np.asarray(sample))[None])[0])


def random_search(problem: Problem, counted: Counted, seed: int) -> None:
    """Independent draws from where the others start: fair bits, equal categories, standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        counted(_start(problem, BATCH, generator))


def annealing(problem: Problem, counted: Counted, seed: int) -> None:
    """Simulated annealing: one variable changes at a time; geometric cooling over the whole budget.

    The temperature falls from the standard deviation of 64 random values to a hundredth of it. Real numbers: scipy's
    dual annealing, within [-5, 5].
    """
    if problem.kind == "gaussian":
        from scipy.optimize import dual_annealing

        bounds = [(-5.0, 5.0)] * problem.size
        while True:
            dual_annealing(lambda x: -counted.one(x), bounds, rng=np.random.default_rng(seed), maxiter=10**6)
            seed += 1000
    generator, draw = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    first = counted(_start(problem, BATCH, generator))
    hot = float(first.std()) or 1.0
    now = _start(problem, 1, generator).numpy()[0]
    value = counted.one(now)
    for step in range(counted.budget):
        temperature = hot * 0.01 ** (step / (counted.budget - BATCH))
        other = now.copy()
        at = draw.integers(problem.size)
        other[at] = (other[at] + draw.integers(1, problem.values)) % problem.values
        found = counted.one(other)
        if found >= value or draw.random() < math.exp((found - value) / temperature):
            now, value = other, found


def cma_es(problem: Problem, counted: Counted, seed: int) -> None:
    """pycma with its defaults from mean 0 and step 1, restarted with twice the population when it has converged."""
    import cma

    growth = 1
    while True:
        # Seed 0 would mean the clock.
        options = {"seed": seed * 1000 + growth, "verbose": -9, "popsize": None}
        strategy = cma.CMAEvolutionStrategy(np.zeros(problem.size), 1.0, options)
        population = growth * strategy.popsize
        options["popsize"] = population
        strategy = cma.CMAEvolutionStrategy(np.zeros(problem.size), 1.0, options)
        while not strategy.stop():
            samples = strategy.ask()
            values = counted(torch.from_numpy(np.stack(samples)))
            strategy.tell(samples, (-values).tolist())
        growth *= 2


def nevergrad(problem: Problem, counted: Counted, seed: int) -> None:
    """nevergrad's default, NGOpt, one evaluation at a time, told the whole budget.

    Bits are a bounded integer array, which was better on bits and three times as fast as `Choice` and
    `TransitionChoice` (tried on four of the problems, one seed); colours, which have no order, are a deterministic
    `Choice`.
    """
    with warnings.catch_warnings():
        # Its own and its dependencies' deprecations.
        warnings.simplefilter("ignore")
        import nevergrad as ng

        if problem.kind == "gaussian":
            space: Any = ng.p.Array(init=np.zeros(problem.size))
        elif problem.kind == "bits":
            space = ng.p.Array(init=np.full(problem.size, 0.5), lower=0, upper=1).set_integer_casting()
        else:
            space = ng.p.Choice(list(range(problem.values)), repetitions=problem.size, deterministic=True)
        space.random_state.seed(seed)
        optimizer = ng.optimizers.NGOpt(parametrization=space, budget=counted.budget, num_workers=1)
        as_type = np.float64 if problem.kind != "categories" else np.int64
        while True:
            candidate = optimizer.ask()
            optimizer.tell(candidate, -counted.one(np.asarray(candidate.value, dtype=as_type)))


RIVALS: dict[str, Rival] = {
    "random search": random_search,
    "simulated annealing": annealing,
    "CMA-ES": cma_es,
    "nevergrad": nevergrad,
}


def serves(name: str, problem: Problem) -> bool:
    """CMA-ES is for real numbers."""
    return name != "CMA-ES" or problem.kind == "gaussian"


def spend(name: str, problem: Problem, seed: int) -> list[float]:
    """The best value after each evaluation of the budget.

    nevergrad 1.0.12 has steps that numpy 2.4 refuses (a TypeError in its metamodel): such a run ends there, with what
    it had found; the evaluations that are stored with it tell.
    """
    counted = Counted(problem.make(), problem.budget)
    try:
        RIVALS[name](problem, counted, seed)
    except SpentError:
        return counted.curve
    except TypeError:
        if name == "nevergrad" and counted.curve:
            return counted.curve
        raise
    raise AssertionError(f"{name} stopped before its budget was spent")


def _start(problem: Problem, n: int, generator: torch.Generator) -> torch.Tensor:
    if problem.kind == "gaussian":
        return torch.randn(n, problem.size, generator=generator, dtype=torch.float64)
    drawn = torch.randint(0, problem.values, (n, problem.size), generator=generator)
    return drawn.double() if problem.kind == "bits" else drawn
