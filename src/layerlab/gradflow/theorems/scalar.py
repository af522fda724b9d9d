"""The claims about layers of a single unit (homework 4, section 1.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from layerlab.claims import Claim, Falsifier, Measurement
from layerlab.gradflow.theorems import backward, subjects
from layerlab.gradflow.theorems.subjects import Activation, Chain

Factors = Callable[[Chain, float], list[float]]

ORDINARY = "weights, biases and input are finite; a weight is 0 or between 1e-140 and 1e140 in magnitude"
FINITE = "no layer's output leaves float64"
MEASURED = "measured: |∂f/∂x|^(1/n), the geometric mean over the layers; bound: that of the product"


# ----------------------------------------------------------------------------------- sigmoid-chain, tanh-chain


def _factors(chain: Chain, slope: float) -> list[float]:
    """log2 of |w_i| · slope."""
    return [backward.log2(abs(float(affine.weight)) * slope) for affine in chain.maps]


def _weights_forgotten(chain: Chain, slope: float) -> list[float]:
    """Broken: slope^n, whatever the weights are."""
    return [backward.log2(slope)] * len(chain)


def _one_layer_more(chain: Chain, slope: float) -> list[float]:
    """Broken: the exponent n + 1."""
    return [*_factors(chain, slope), backward.log2(slope)]


def _measure_chain(
    chain: Chain,
    generator: np.random.Generator,
    *,
    activation: Activation,
    slope: float,
    factors: Factors = _factors,
) -> Measurement:
    if reason := chain.unmet(scalar=True):
        return Measurement.unmet_because(reason)
    return backward.compared(chain.stages(activation), chain.x, factors(chain, slope), width=1)


def _times(activation: Activation, factor: float) -> Activation:
    """Broken: the same function, steeper."""
    return Activation(
        f"{activation.name}({factor:g} x)",
        lambda x: activation.function(factor * x),
        factor * activation.slope,
    )


_NOT_SCALAR = Falsifier(
    "a layer of two units",
    lambda: subjects.recurrent(subjects.orthogonal(2), subjects.gaussian(2), steps=3),
    expected="hypotheses unmet",
)

SIGMOID_CHAIN = Claim(
    id="gradflow.sigmoid-chain",
    title="A chain of sigmoid units lets at most a quarter of each weight through",
    source="Homework 4, question 1.1.1",
    statement=(
        "f(x) = h_n with h_i = sigmoid(w_i h_(i−1) + b_i), h_0 = x: 0 ≤ |∂f/∂x| ≤ Π |w_i| / 4, so (1/4)^n for weights"
        f" 1; biases change nothing; {MEASURED}"
    ),
    hypotheses=("every layer has a single unit", ORDINARY, FINITE),
    relation="<=",
    measure=partial(_measure_chain, activation=subjects.SIGMOID, slope=0.25),
    subjects={
        "one-layer-at-0": lambda: subjects.scalar([1.0], 0.0),
        "unit-weights-5": lambda: subjects.scalar([1.0] * 5, 0.3),
        "unit-weights-200": lambda: subjects.scalar([1.0] * 200, 0.3),
        "own-weights": lambda: subjects.scalar([0.5, -3.0, 8.0, 1.0], -1.0),
        "biases-that-centre-200": lambda: subjects.scalar([3.0] * 200, 0.5, [-1.5] * 200),
        "tiny-weights-200": lambda: subjects.scalar([1e-30] * 200, 1.0),
        "weights-above-4": lambda: subjects.scalar([6.0] * 50, 0.5, [-3.0] * 50),
        "a-weight-of-0": lambda: subjects.scalar([1.0, 0.0, 2.0], 0.5),
        "saturated": lambda: subjects.scalar([1.0, 900.0, 1.0], 40.0),
    },
    falsifiers={
        "steeper": Falsifier(
            "sigmoid(1.1 x), whose slope reaches 0.275",
            lambda: subjects.scalar([1.0], 0.0),
            replaces={"activation": _times(subjects.SIGMOID, 1.1)},
        ),
        "tanh": Falsifier(
            "tanh in its place",
            lambda: subjects.scalar([1.0] * 5, 0.3),
            replaces={"activation": subjects.TANH},
        ),
        "weights-forgotten": Falsifier(
            "(1/4)^n for weights of 1.5",
            lambda: subjects.scalar([1.5] * 3, 0.5, [-0.75] * 3),
            replaces={"factors": _weights_forgotten},
        ),
        "one-layer-more": Falsifier(
            "(1/4)^(n + 1)", lambda: subjects.scalar([1.0], 0.0), replaces={"factors": _one_layer_more}
        ),
        "two-units": _NOT_SCALAR,
    },
)

TANH_CHAIN = Claim(
    id="gradflow.tanh-chain",
    title="A chain of tanh units cannot explode with weights up to 1, and need not vanish",
    source="Homework 4, question 1.1.2",
    statement=(
        "f(x) = h_n with h_i = tanh(w_i h_(i−1) + b_i), h_0 = x: 0 ≤ |∂f/∂x| ≤ Π |w_i|, so ≤ 1 for weights 1, with"
        f" equality at x = 0 without biases, for every n; {MEASURED}"
    ),
    hypotheses=("every layer has a single unit", ORDINARY, FINITE),
    relation="<=",
    measure=partial(_measure_chain, activation=subjects.TANH, slope=1.0),
    subjects={
        "unit-weights-at-0": lambda: subjects.scalar([1.0] * 200, 0.0),
        "unit-weights-5": lambda: subjects.scalar([1.0] * 5, 0.3),
        "unit-weights-200": lambda: subjects.scalar([1.0] * 200, 0.3),
        "own-weights-at-0": lambda: subjects.scalar([0.5, -3.0, 8.0, 1.0], 0.0),
        "own-weights-and-biases": lambda: subjects.scalar([0.5, -3.0, 8.0], -1.0, [0.1, 0.2, -5.0]),
        "weights-2-at-0": lambda: subjects.scalar([2.0] * 200, 0.0),
        "saturated": lambda: subjects.scalar([30.0, 30.0], 5.0),
    },
    falsifiers={
        "steeper": Falsifier(
            "tanh(1.5 x)",
            lambda: subjects.scalar([1.0] * 5, 0.0),
            replaces={"activation": _times(subjects.TANH, 1.5)},
        ),
        "weights-forgotten": Falsifier(
            "1 for weights of 1.1",
            lambda: subjects.scalar([1.1] * 5, 0.0),
            replaces={"factors": _weights_forgotten},
        ),
        "two-units": _NOT_SCALAR,
    },
)


# --------------------------------------------------------------------------------------------------- relu-chain

# What the derivative of one layer is said to be: of weight and pre-activation.
Step = Callable[[float, float], float]


def _indicator(weight: float, before: float) -> float:
    return weight if before > 0 else 0.0


def _always_on(weight: float, before: float) -> float:
    """Broken: the indicator left out."""
    return weight


def _magnitude(weight: float, before: float) -> float:
    """Broken: the sign of the weight left out."""
    return abs(_indicator(weight, before))


def _measure_relu(
    chain: Chain,
    generator: np.random.Generator,
    *,
    activation: Activation = subjects.RELU,
    step: Step = _indicator,
) -> Measurement:
    """±|∂f/∂x|^(1/n) against ±|Π w_i 1(w_i h_(i−1) + b_i > 0)|^(1/n)."""
    if reason := chain.unmet(scalar=True):
        return Measurement.unmet_because(reason)
    stages = chain.stages(activation)
    along = backward.points(stages, chain.x)
    if reason := backward.out_of_range(along):
        return Measurement.unmet_because(reason)
    before = [float(affine(point)) for affine, point in zip(chain.maps, along[:-1], strict=True)]
    weights = [float(affine.weight) for affine in chain.maps]
    off = next((i for i, value in enumerate(before) if not value > 0), None)
    if off is not None and before[off] == 0 and weights[off] != 0:
        return Measurement.unmet_because(
            f"the pre-activation of layer {off + 1} is 0, where ReLU has no derivative"
        )
    found = backward.jacobian(stages, along)
    steps = [step(*pair) for pair in zip(weights, before, strict=True)]
    logs = [backward.log2(abs(value)) for value in steps]
    measured = math.copysign(backward.per_layer(found.log2_norm(), len(chain)), found.matrix.item())
    bound = backward.per_layer(math.fsum(logs), len(chain))
    slack = backward.slack(len(chain), 1, bound, logs)
    sign = math.prod(math.copysign(1.0, value) for value in steps)
    return Measurement(measured, sign * bound, slack)


RELU_CHAIN = Claim(
    id="gradflow.relu-chain",
    title="A chain of ReLU units passes the product of its weights, or nothing",
    source="Solutions, question 1.1.2",
    statement=(
        "f(x) = h_n with h_i = ReLU(w_i h_(i−1) + b_i), h_0 = x: ∂f/∂x = Π w_i 1(w_i h_(i−1) + b_i > 0), so |∂f/∂x| is"
        " 0 or Π |w_i|, and explodes with weights above 1; measured: the derivative's sign times |∂f/∂x|^(1/n)"
    ),
    hypotheses=(
        "every layer has a single unit",
        ORDINARY,
        FINITE,
        "the first pre-activation that is not positive is not 0 (ReLU has no derivative there), unless its weight is",
    ),
    relation="==",
    measure=_measure_relu,
    subjects={
        "unit-weights-200": lambda: subjects.scalar([1.0] * 200, 0.3),
        "weights-2-200": lambda: subjects.scalar([2.0] * 200, 0.3),
        "weights-a-half-200": lambda: subjects.scalar([0.5] * 200, 0.3),
        "own-weights": lambda: subjects.scalar([0.5, 3.0, 8.0, 0.1], 1.0),
        "negative-weight-and-input": lambda: subjects.scalar([-2.0, 3.0], -1.0),
        "negative-input": lambda: subjects.scalar([2.0, 3.0], -1.0),
        "negative-weight": lambda: subjects.scalar([2.0, -3.0, 1.0], 1.0),
        "own-biases": lambda: subjects.scalar([2.0, -3.0, 1.0], 1.0, [0.5, 9.0, -1.0]),
        "a-weight-of-0": lambda: subjects.scalar([2.0, 0.0, 1.0], 1.0),
    },
    falsifiers={
        "leaky": Falsifier(
            "a leaky ReLU of slope 1.25, where a pre-activation is negative",
            lambda: subjects.scalar([2.0, 3.0], -1.0),
            replaces={"activation": subjects.leaky_relu(1.25)},
        ),
        "indicator-left-out": Falsifier(
            "Π w_i, where a pre-activation is negative",
            lambda: subjects.scalar([2.0, -3.0, 1.0], 1.0),
            replaces={"step": _always_on},
        ),
        "sign-left-out": Falsifier(
            "Π |w_i|, where a weight is negative and the unit active",
            lambda: subjects.scalar([-2.0, 3.0], -1.0),
            replaces={"step": _magnitude},
        ),
        "tanh": Falsifier(
            "tanh in its place",
            lambda: subjects.scalar([1.0] * 3, 0.3),
            replaces={"activation": subjects.TANH},
        ),
        "at-the-kink": Falsifier(
            "x = 0, where ReLU has no derivative",
            lambda: subjects.scalar([2.0, 3.0], 0.0),
            expected="hypotheses unmet",
        ),
        "two-units": _NOT_SCALAR,
    },
)
