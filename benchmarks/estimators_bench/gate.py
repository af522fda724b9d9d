"""Nothing is raced or timed before the variances equal their closed forms and the bias test tells right from wrong."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from bench_common.command import GateError
from torch import Tensor

from layerlab.estimators import Bernoulli, variance
from layerlab.estimators.bias import bias_test
from layerlab.estimators.enumeration import Moments, tabulate
from layerlab.estimators.estimation import ESTIMATORS
from layerlab.estimators.space import Space

ALLOWED = 1e-10
BITS, SAMPLES, REPETITIONS = 5, 12, 4000
SEED = 11


def check_all(repetitions: int = REPETITIONS) -> dict[str, Any]:
    """Both checks; raises `GateError` where one fails."""
    largest = closed_forms()
    if largest > ALLOWED:
        raise GateError(f"enumerated variances differ from closed forms by {largest:.1e}")
    rows = biases(repetitions)
    for name, row in rows.items():
        if row["passed"] == row["biased"]:
            told = "biased and passes" if row["biased"] else "unbiased and fails"
            raise GateError(f"{name} is {told} the bias test (z = {row['z']:.1f})")
    return {"largest": largest, "allowed": ALLOWED, "repetitions": repetitions, "bias": rows}


def closed_forms() -> float:
    """The largest relative difference between variances by enumeration and in closed form, one bit."""
    largest = 0.0
    space = Space.parse(bits=1)
    for mu, (low, high), samples in itertools.product(
        (0.01, 0.25, 0.5, 0.8, 0.999), ((0.0, 1.0), (-2.0, 3.0), (5.0, 5.5)), (2, 7, 64)
    ):
        values = torch.tensor([low, high], dtype=torch.float64)
        moments = Moments.of(space, values, space.at_probability(mu))
        found = {
            "reinforce": variance.with_baseline(moments, 0.0, samples).trace,
            "mean": variance.with_baseline(moments, moments.mean, samples).trace,
            "leave-one-out": variance.leave_one_out(moments, samples).trace,
            "arm": variance.antithetic(values, moments, samples, "arm").trace,
            "disarm": variance.antithetic(values, moments, samples, "disarm").trace,
        }
        stated = variance.one_bit(low, high, mu, samples)
        for name, value in found.items():
            largest = max(largest, abs(value - stated[name]) / max(stated[name], 1e-12))
    return largest


def smooth(x: Tensor) -> Tensor:
    """Not linear in any bit, and differentiable."""
    weights = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    return torch.sin(x @ weights / 2) + (x @ weights / 4) ** 2


def biases(repetitions: int) -> dict[str, dict[str, Any]]:
    """The bias test of every estimator of bits, at one distribution drawn from a seed."""
    generator = torch.Generator().manual_seed(SEED)
    family = Bernoulli(torch.randn(BITS, generator=generator, dtype=torch.float64))
    space = Space.parse(bits=BITS)
    gradient = Moments.of(space, tabulate(smooth, space), family.parameters).gradient()
    rows = {}
    for name, estimator in ESTIMATORS.items():
        if estimator.refusal(family) is not None or estimator.needs:
            continue
        found = torch.stack(
            [estimator.terms(smooth, family, SAMPLES, generator).gradient for _ in range(repetitions)]
        )
        test = bias_test(found, gradient)
        rows[name] = {"biased": estimator.biased, "passed": test.passed, "z": test.z, "limit": test.limit}
    return rows
