"""The claims about a recurrent layer, and the erratum of the solutions (homework 4, question 1.2.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.claims import Claim, Falsifier, Measurement, rounding
from layerlab.gradflow.theorems import backward, subjects
from layerlab.gradflow.theorems.scalar import FINITE, ORDINARY
from layerlab.gradflow.theorems.subjects import Activation, Chain

Norm = Callable[[Tensor], float]
Steps = Callable[[int], int]

DENSE_UP_TO = 1000
DENSE = f"at most {DENSE_UP_TO:,} units a layer (dense Jacobians)"


def too_wide(width: int) -> str | None:
    """The hypothesis of dense work that does not hold, if any."""
    if width <= DENSE_UP_TO:
        return None
    return f"a layer has {width:,} units, too many for a dense Jacobian (up to {DENSE_UP_TO:,})"


# ------------------------------------------------------------------------------------- rnn-tanh, rnn-sigmoid


def spectral_radius(weight: Tensor) -> float:
    """Broken as a norm: the largest magnitude of the eigenvalues."""
    return float(np.abs(np.linalg.eigvals(weight.numpy())).max())


def understated(weight: Tensor) -> float:
    """Broken: σ_max is 1 per cent larger than stated."""
    return backward.norm(weight) / 1.01


def mean_singular_value(weight: Tensor) -> float:
    """Broken: the root mean square of the singular values."""
    return float(torch.linalg.matrix_norm(weight)) / math.sqrt(min(weight.shape))


def _as_many(steps: int) -> int:
    return steps


def _one_more(steps: int) -> int:
    """Broken: the exponent n, where x_1 to x_n are n − 1 steps."""
    return steps + 1


def _measure_recurrence(
    chain: Chain,
    generator: np.random.Generator,
    *,
    activation: Activation,
    slope: float,
    norm: Norm = backward.norm,
    factors: Steps = _as_many,
) -> Measurement:
    if reason := chain.unmet() or too_wide(chain.width):
        return Measurement.unmet_because(reason)
    weight = chain.maps[0].weight
    if any(not torch.equal(affine.weight, weight) for affine in chain.maps):
        return Measurement.unmet_because("the weights change from step to step")
    allowed = [backward.log2(slope * norm(weight))] * factors(len(chain))
    return backward.compared(chain.stages(activation), chain.x, allowed, chain.width)


def driven(layer: nn.RNN, inputs: Tensor) -> Chain:
    """torch.nn.RNN, one layer of tanh, driven by inputs: they are a bias that changes from step to step.

    Args:
        layer: in float64.
        inputs: (steps, input size).
    """
    weights = {name.removesuffix("_l0"): value.detach() for name, value in layer.named_parameters()}
    shifts = inputs @ weights["weight_ih"].t() + weights["bias_ih"] + weights["bias_hh"]
    maps = [subjects.Affine(weights["weight_hh"], shift) for shift in shifts]
    return Chain(tuple(maps), torch.zeros(layer.hidden_size))


def _nn_rnn() -> Chain:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20260101)
        return driven(nn.RNN(3, 6).double(), subjects.gaussian(30, 3, seed=3))


_STATEMENT = "measured: σ_max^(1/(n − 1)), the geometric mean over the steps; bound: that of the product"
_HYPOTHESES = ("the weight is the same at every step", ORDINARY, FINITE, DENSE)

RNN_TANH = Claim(
    id="gradflow.rnn-tanh",
    title="The gradient of a tanh recurrence grows at most like powers of the weight's norm",
    source="Homework 4, question 1.2.1",
    statement=(
        "x_(t+1) = tanh(W x_t + b_t), s = σ_max(W): σ_max(∂x_n/∂x_1) ≤ s^(n−1), so (1/2)^(n−1) for s = 1/2; equality"
        f" for W = s Q, Q orthogonal, at x = 0 without bias; {_STATEMENT}"
    ),
    hypotheses=_HYPOTHESES,
    relation="<=",
    measure=partial(_measure_recurrence, activation=subjects.TANH, slope=1.0),
    subjects={
        "half-orthogonal-at-0": lambda: subjects.recurrent(
            0.5 * subjects.orthogonal(8), torch.zeros(8), steps=200
        ),
        "half-gaussian": lambda: subjects.recurrent(
            subjects.with_norm(subjects.gaussian(8, 8), 0.5), subjects.gaussian(8), steps=20
        ),
        "half-gaussian-with-bias": lambda: subjects.recurrent(
            subjects.with_norm(subjects.gaussian(8, 8), 0.5),
            subjects.gaussian(8),
            steps=20,
            bias=subjects.gaussian(8, seed=1),
        ),
        "gaussian-200-steps": lambda: subjects.recurrent(
            subjects.gaussian(5, 5), subjects.gaussian(5), steps=200
        ),
        "shear-at-0": lambda: subjects.recurrent(subjects.shear(0.5), torch.zeros(2), steps=10),
        "rank-one": lambda: subjects.recurrent(
            subjects.gaussian(6, 1) @ subjects.gaussian(1, 6, seed=1), subjects.gaussian(6), steps=10
        ),
        "no-weight": lambda: subjects.recurrent(torch.zeros(3, 3), subjects.gaussian(3), steps=4),
        "single-step": lambda: subjects.recurrent(subjects.gaussian(40, 40), 0.01 * subjects.gaussian(40), 1),
        "nn-rnn": _nn_rnn,
    },
    falsifiers={
        "norm-understated": Falsifier(
            "σ_max(W) 1 per cent larger than stated",
            lambda: subjects.recurrent(0.5 * subjects.orthogonal(8), torch.zeros(8), steps=10),
            replaces={"norm": understated},
        ),
        "spectral-radius": Falsifier(
            "the spectral radius in place of σ_max, for a W that is not normal",
            lambda: subjects.recurrent(subjects.shear(0.5), torch.zeros(2), steps=10),
            replaces={"norm": spectral_radius},
        ),
        "mean-singular-value": Falsifier(
            "the root mean square of the singular values in place of the largest",
            lambda: subjects.recurrent(torch.diag(torch.tensor([1.0, 0.5])), torch.zeros(2), steps=10),
            replaces={"norm": mean_singular_value},
        ),
        "one-step-more": Falsifier(
            "s^n in place of s^(n − 1)",
            lambda: subjects.recurrent(0.5 * subjects.orthogonal(8), torch.zeros(8), steps=10),
            replaces={"factors": _one_more},
        ),
        "weights-that-change": Falsifier(
            "another W at every step",
            lambda: Chain(
                tuple(subjects.Affine(subjects.gaussian(3, 3, seed=step)) for step in range(3)), torch.ones(3)
            ),
            expected="hypotheses unmet",
        ),
    },
)


def _centred_recurrence(norm: float, steps: int, size: int = 8) -> Chain:
    """x_t = (1/2, …, 1/2) for ever: a bias with which every pre-activation is 0; W is norm times orthogonal."""
    weight, half = norm * subjects.orthogonal(size), torch.full((size,), 0.5, dtype=torch.float64)
    return subjects.recurrent(weight, half, steps, bias=-(weight @ half))


RNN_SIGMOID = Claim(
    id="gradflow.rnn-sigmoid",
    title="The gradient of a sigmoid recurrence shrinks by a quarter of the weight's norm a step",
    source="Solutions, question 1.2.1",
    statement=(
        "x_(t+1) = sigmoid(W x_t + b_t), s = σ_max(W): σ_max(∂x_n/∂x_1) ≤ (s/4)^(n−1), so (1/16)^(n−1) for s = 1/4;"
        f" {_STATEMENT}"
    ),
    hypotheses=_HYPOTHESES,
    relation="<=",
    measure=partial(_measure_recurrence, activation=subjects.SIGMOID, slope=0.25),
    subjects={
        "quarter-orthogonal": lambda: subjects.recurrent(
            0.25 * subjects.orthogonal(8), subjects.gaussian(8), steps=10
        ),
        "quarter-gaussian-200-steps": lambda: subjects.recurrent(
            subjects.with_norm(subjects.gaussian(8, 8), 0.25), subjects.gaussian(8), steps=200
        ),
        "centred-200-steps": lambda: _centred_recurrence(0.25, 200),
        "norm-above-4-centred": lambda: _centred_recurrence(5.0, 20),
        "gaussian-with-bias": lambda: subjects.recurrent(
            3.0 * subjects.gaussian(6, 6), subjects.gaussian(6), 20, bias=subjects.gaussian(6, seed=1)
        ),
        "single-step": lambda: subjects.recurrent(subjects.gaussian(40, 40), 0.01 * subjects.gaussian(40), 1),
    },
    falsifiers={
        "tanh": Falsifier(
            "tanh in its place",
            lambda: subjects.recurrent(0.25 * subjects.orthogonal(8), 0.1 * subjects.gaussian(8), steps=10),
            replaces={"activation": subjects.TANH},
        ),
        "norm-understated": Falsifier(
            "σ_max(W) 1 per cent larger than stated",
            lambda: _centred_recurrence(0.25, 10),
            replaces={"norm": understated},
        ),
        "one-step-more": Falsifier(
            "(s/4)^n in place of (s/4)^(n − 1)",
            lambda: _centred_recurrence(0.25, 10),
            replaces={"factors": _one_more},
        ),
        "weights-that-change": RNN_TANH.falsifiers["weights-that-change"],
    },
)


# ------------------------------------------------------------------------ sigmoid-layer, sigmoid-layer-as-printed

Said = Callable[[Tensor], float]


def _steepest(before: Tensor) -> float:
    """1/4 − min (S(a_i) − 1/2)², which is the largest S'(a_i)."""
    return 0.25 - float((torch.sigmoid(before) - 0.5).square().min())


def _quarter(before: Tensor) -> float:
    """As printed: 1/4, whatever the pre-activations are."""
    return 0.25


def _shallowest(before: Tensor) -> float:
    """Broken: the smallest slope, at the unit that is farthest from 0."""
    return 0.25 - float((torch.sigmoid(before) - 0.5).square().max())


def _slope_at_mean(before: Tensor) -> float:
    """Broken: the slope at the mean of the pre-activations."""
    return _steepest(before.mean().reshape(1))


def _measure_layer(
    before: Tensor,
    generator: np.random.Generator,
    *,
    activation: Activation = subjects.SIGMOID,
    said: Said,
) -> Measurement:
    """σ_max of the Jacobian of the activation at these pre-activations."""
    before = torch.as_tensor(before, dtype=torch.float64).detach()
    if before.dim() != 1 or not before.numel():
        return Measurement.unmet_because("the pre-activations are no vector with at least one entry")
    if reason := too_wide(before.numel()) or (
        None if before.isfinite().all() else "a pre-activation is not finite"
    ):
        return Measurement.unmet_because(reason)
    stages = [activation.function]
    found = backward.jacobian(stages, backward.points(stages, before))
    # A diagonal matrix: no sum, and S' = S (1 − S) is off by at most 4 roundings of 1/4. A slope below that is 0.
    slack, bound = rounding("float64", 8, scale=0.25), said(before)
    return Measurement(backward.per_layer(found.log2_norm(), 1), bound if bound > slack.value else 0.0, slack)


SIGMOID_LAYER = Claim(
    id="gradflow.sigmoid-layer",
    title="The Jacobian of a sigmoid layer in its pre-activations has norm max S', at most 1/4",
    source="Solutions, question 1.2.1, corrected",
    statement=(
        "S = sigmoid: σ_max(∂S(a)/∂a) = max_i S'(a_i) = 1/4 − min_i (S(a_i) − 1/2)²; so it is at most 1/4, with"
        " equality only where a pre-activation is 0"
    ),
    hypotheses=("a vector of finite pre-activations", DENSE),
    relation="==",
    measure=partial(_measure_layer, said=_steepest),
    subjects={
        "at-0": lambda: torch.zeros(5),
        "a-unit-at-0": lambda: torch.tensor([2.0, 0.0, -1.0]),
        "no-unit-at-0": lambda: torch.tensor([2.0, 1.0, -1.0]),
        "single-unit": lambda: torch.tensor([0.7]),
        "gaussian-100": lambda: 1.0 + subjects.gaussian(100).abs(),
        "saturated": lambda: torch.tensor([30.0, -30.0]),
        "at-rounding": lambda: torch.tensor([36.0]),
    },
    falsifiers={
        "tanh": Falsifier("tanh in its place", lambda: torch.ones(3), replaces={"activation": subjects.TANH}),
        "shallowest": Falsifier(
            "the smallest slope", lambda: torch.tensor([1.0, 2.0]), replaces={"said": _shallowest}
        ),
        "slope-at-mean": Falsifier(
            "the slope at the mean pre-activation",
            lambda: torch.tensor([1.0, 2.0]),
            replaces={"said": _slope_at_mean},
        ),
        "always-a-quarter": Falsifier(
            "1/4, where no pre-activation is 0", lambda: torch.ones(3), replaces={"said": _quarter}
        ),
        "not-a-number": Falsifier(
            "a pre-activation that is NaN", lambda: torch.tensor([math.nan]), expected="hypotheses unmet"
        ),
    },
)

SIGMOID_LAYER_AS_PRINTED = Claim(
    id="gradflow.sigmoid-layer-as-printed",
    title="The solutions' value of the norm of a sigmoid layer's Jacobian",
    source="Solutions, question 1.2.1, as printed",
    statement="S = sigmoid: σ_max(∂S(W x_t)/∂(W x_t)) = 1/4, whatever W x_t is",
    hypotheses=SIGMOID_LAYER.hypotheses,
    relation="==",
    measure=partial(_measure_layer, said=_quarter),
    subjects={
        "single-unit-at-1": lambda: torch.ones(1),
        "no-unit-at-0": lambda: torch.tensor([2.0, 1.0, -1.0]),
        "its-own-second-step": lambda: 0.25 * torch.sigmoid(torch.zeros(4)),
        "saturated": lambda: torch.tensor([30.0, -30.0]),
    },
    falsifiers={
        "corrected": Falsifier(
            "the largest slope in place of 1/4",
            lambda: torch.ones(1),
            replaces={"said": _steepest},
            expected="holds",
        ),
        "a-unit-at-0": Falsifier(
            "a unit whose pre-activation is 0, where it is true",
            lambda: torch.tensor([2.0, 0.0, -1.0]),
            expected="holds",
        ),
    },
    expected="refuted",
)
