"""No slack is wider than needed: an error of a hundred slacks is found, whichever claim with == it is put into."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, Outcome
from layerlab.graph.layers import Attention
from layerlab.graph.theorems.spectra import Extreme

# Claim -> a subject, and the block whose result is shaken: where a mistake would enter.
SHAKEN = {
    "gradflow.relu-chain": ("own-weights", "step"),
    "gradflow.sigmoid-layer": ("at-0", "said"),
    "attention.kernel-linear": ("elu", "forms"),
    "attention.kernel-recurrent": ("single-token", "form"),
    "attention.low-rank-svd": ("single-token", "apply"),
    "attention.projection": ("single-token", "attend"),
    "attention.conv1d": ("printed-taps", "ways"),
    "estimators.closed-form": ("mu-0.01", "form"),
    "estimators.unbiased": ("mu-0.25", "estimator"),
    "estimators.variance": ("mu-0.25", "estimator"),
    "estimators.slow-learning": ("mu-0.25", "stated"),
    "estimators.baseline": ("mu-0.25-b--1", "stated"),
    "estimators.mean-baseline": ("x-1", "baseline"),
    "estimators.loo-variance": ("course-toy", "formula"),
    "projection.kerdock": ("n-16", "lines"),
    "graph.quadratic-form": ("path-50", "matrix"),
    "graph.lambda-min": ("path-50", "matrix"),
    "graph.leading-eigenvector": ("path-3", "matrix"),
    "graph.power": ("path-50", "matrix"),
    "graph.gat-coefficients": ("path-9", "attend"),
    "graph.oversmoothing": ("path-50", "rate"),
    "graph.oversmoothing-with-loops": ("path-50", "rate"),
}
_WHOLE = "whole numbers or truth values, no slack"
_CHANCE = "the slack is a confidence interval, whose width its n and its level fix"
_COUNTS = "operations are counted: what its block computes is not looked at"
_NO_NUMBER = "no block of it gives a number"
LEFT_OUT = {
    "gradflow.attained": _NO_NUMBER,
    "estimators.best-baseline": "it measures a variance, the square of an error",
    **dict.fromkeys(("estimators.loo", "estimators.arm", "estimators.disarm"), _NO_NUMBER),
    "segmentation.zero-control": _NO_NUMBER,
    **{f"attention.{name}-cost": _COUNTS for name in ("kernel-linear", "softmax", "low-rank", "projection")},
    **dict.fromkeys(
        ("estimators.unbiased-sampled", "estimators.variance-sampled", "projection.chi-square"), _CHANCE
    ),
    **dict.fromkeys(
        ("gradflow.underflow", "attention.full-rank-causal", "estimators.variance-largest"), _WHOLE
    ),
    **dict.fromkeys(("projection.refusal", "graph.components", "graph.bipartite-two"), _WHOLE),
}
SLACKS = 100
# Where a matrix that is larger as a whole changes nothing.
ALIKE = {
    "graph.leading-eigenvector": "the eigenvectors stay",
    "graph.power": "both ways are powers of the same matrix",
}


def test_every_identity_is_shaken_or_left_out_for_a_reason() -> None:
    identities = {c.id for c in catalogue().values() if c.relation == "==" and c.expected == "holds"}
    assert not SHAKEN.keys() & LEFT_OUT.keys()
    assert SHAKEN.keys() | LEFT_OUT.keys() == identities


def shaken(found: Any, by: float, signs: np.random.Generator) -> Any:
    """Every number off by the share ``by`` of itself, up or down."""
    if isinstance(found, float):
        return found * (1 + by)
    if isinstance(found, Extreme):
        return dataclasses.replace(found, value=found.value * (1 + by))
    if isinstance(found, Attention):
        return found._replace(coefficients=shaken(found.coefficients, by, signs))
    if isinstance(found, sp.csr_array):
        return sp.csr_array((shaken(found.data, by, signs), found.indices, found.indptr), shape=found.shape)
    off = 1 + by * signs.choice([-1.0, 1.0], size=tuple(found.shape))
    return found.double() * torch.from_numpy(off) if isinstance(found, torch.Tensor) else found * off


def pushed(found: Any, by: float) -> Any:
    """Every number off by the share ``by`` of its magnitude, all to the same side."""
    if isinstance(found, Extreme):
        return dataclasses.replace(found, value=found.value + by * abs(found.value))
    if isinstance(found, Attention):
        return found._replace(coefficients=pushed(found.coefficients, by))
    if isinstance(found, sp.csr_array):
        return sp.csr_array((pushed(found.data, by), found.indices, found.indptr), shape=found.shape)
    found = found.double() if isinstance(found, torch.Tensor) else found
    return found + by * abs(found)


def outcome(claim: Claim, subject: str, **replaced: Any) -> Outcome:
    measured = claim.measure(claim.subjects[subject](), np.random.default_rng(0), **replaced)
    return Outcome(claim.relation, measured, seed=0)


@pytest.mark.parametrize("name", SHAKEN)
def test_an_error_of_a_hundred_slacks_is_found(name: str) -> None:
    claim, (subject, block) = catalogue()[name], SHAKEN[name]
    unshaken = outcome(claim, subject)
    assert unshaken.verdict == "holds"
    relative = unshaken.slack / (unshaken.measurement.slack.scale or abs(unshaken.bound))
    assert 0 < relative < 1e-6
    shipped = inspect.signature(claim.measure).parameters[block].default

    def broken(function: Callable[..., Any], share: float) -> Callable[..., Any]:
        return lambda *given: shaken(function(*given), share, np.random.default_rng(0))

    def with_error(share: float) -> str:
        one = broken(shipped, share) if callable(shipped) else tuple(broken(each, share) for each in shipped)
        return outcome(claim, subject, **{block: one}).verdict

    assert "violated" in [with_error(sign * SLACKS * relative) for sign in (1, -1)]
    # And one below rounding is not.
    assert with_error(1e-3 * relative) == "holds"


@pytest.mark.parametrize("name", [name for name in SHAKEN if name not in ALIKE])
def test_an_error_to_one_side_is_found_on_either_side(name: str) -> None:
    claim, (subject, block) = catalogue()[name], SHAKEN[name]
    unshaken = outcome(claim, subject)
    relative = unshaken.slack / (unshaken.measurement.slack.scale or abs(unshaken.bound))
    shipped = inspect.signature(claim.measure).parameters[block].default
    ways = [shipped] if callable(shipped) else list(shipped)
    for number, share in itertools.product(range(len(ways)), (SLACKS * relative, -SLACKS * relative)):
        # Of several ways to the same number one is off, the others are right.
        given = list(ways)
        given[number] = lambda *a, way=ways[number], share=share: pushed(way(*a), share)
        replaced = given[0] if callable(shipped) else tuple(given)
        assert outcome(claim, subject, **{block: replaced}).verdict == "violated", (number, share)
