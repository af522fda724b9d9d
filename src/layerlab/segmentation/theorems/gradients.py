"""The claims about the gradient at the first encoder layer, with and without skip connections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerlab.claims import Claim, Falsifier, Measurement, exact
from layerlab.lab.statistics import Estimate, estimate
from layerlab.segmentation.theorems.subjects import Skips, stem_gradient

# Fixed in advance; so is the confidence.
NETWORKS, FULL_NETWORKS = 16, 48
LEVEL = 0.999


@dataclass(frozen=True)
class Depth:
    """Networks of one shape, compared with and without their skips before the first step."""

    levels: int
    norm: str
    without: Skips = "off"


def _as_they_are(logarithms: list[float]) -> Estimate:
    return estimate(logarithms, LEVEL)


def _swapped(logarithms: list[float]) -> Estimate:
    """Broken: the arms exchanged."""
    return estimate([-value for value in logarithms], LEVEL)


def log_ratios(depth: Depth, seeds: list[int]) -> list[float]:
    """ln of the length of the stem's gradient without skips over that with, a network a seed."""
    widths = (8,) * depth.levels
    return [
        math.log(
            stem_gradient(widths, depth.norm, depth.without, seed)
            / stem_gradient(widths, depth.norm, "concatenate", seed)
        )
        for seed in seeds
    ]


def _drawn(generator: np.random.Generator, count: int) -> list[int]:
    return [int(seed) for seed in generator.integers(0, 2**31, count)]


def _measure(
    depth: Depth,
    generator: np.random.Generator,
    *,
    order: Callable[[list[float]], Estimate] = _as_they_are,
    networks: int = NETWORKS,
) -> Measurement:
    high = order(log_ratios(depth, _drawn(generator, networks))).high
    return Measurement(high, 0.0, exact("the upper end of an interval is compared"))


def _measure_at_least(
    depth: Depth, generator: np.random.Generator, *, networks: int = NETWORKS
) -> Measurement:
    # To refute, the whole interval has to lie above.
    low = estimate(log_ratios(depth, _drawn(generator, networks)), LEVEL).low
    return Measurement(low, 0.0, exact("the lower end of an interval is compared"))


_STATEMENT = (
    f"mean of ln(‖∂loss/∂stem‖ without skips / with skips) over {NETWORKS} networks ({FULL_NETWORKS} with --full)"
    f" before the first step, paired by seed; bound: 0; measured: of its {100 * LEVEL:g} % interval the"
)

STEM = Claim(
    id="segmentation.stem-gradient",
    title="Without a norm, a deep U-Net has a smaller gradient at its first layer where it has no skips",
    source="Solutions, question 4.2: “instability in gradients”",
    statement=f"{_STATEMENT} upper end",
    hypotheses=("no norm", "weights drawn with variance 2/fan-in (He et al. 2015)"),
    relation="<=",
    measure=_measure,
    full={"networks": FULL_NETWORKS},
    subjects={
        "six-levels": lambda: Depth(6, "none"),
        "zeros-in-their-place": lambda: Depth(6, "none", "zero"),
    },
    falsifiers={
        "swapped": Falsifier("the arms exchanged", lambda: Depth(6, "none"), replaces={"order": _swapped}),
        "batch-norm": Falsifier("a batch norm after every convolution", lambda: Depth(6, "batch")),
    },
)

REASON = Claim(
    id="segmentation.gradient-reason-as-printed",
    title="“Skip connections help prevent … instability in gradients”, in a U-Net as it is trained today",
    source="Solutions, question 4.2, the reason given",
    statement=f"{_STATEMENT} lower end; with a batch norm after every convolution, as U-Nets have it",
    hypotheses=("a batch norm or none", "weights drawn with variance 2/fan-in (He et al. 2015)"),
    relation="<=",
    measure=_measure_at_least,
    full={"networks": FULL_NETWORKS},
    subjects={"batch-norm-six-levels": lambda: Depth(6, "batch")},
    falsifiers={
        "no-norm": Falsifier(
            "no norm, where the gradient is smaller without skips",
            lambda: Depth(6, "none"),
            expected="holds",
        )
    },
    expected="refuted",
)
