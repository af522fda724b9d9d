"""The claims about what skip connections bring: measured over paired seeds, and where they bring nothing."""

from __future__ import annotations

import numpy as np

from layerlab.claims import Claim, Falsifier, Measurement, exact
from layerlab.lab.statistics import Estimate, paired_difference
from layerlab.segmentation.theorems.subjects import FULL_SEEDS, SEEDS, Trial, blocks, strokes, trained_iou

_FINEST, _COARSER = ("concatenate", "zero"), ("zero", "concatenate")


def _difference(trial: Trial, generator: np.random.Generator, count: int) -> Estimate:
    seeds = [int(seed) for seed in generator.integers(0, 2**31, count)]
    left, right = (
        [trained_iou(trial.draw, skips, seed) for seed in seeds]
        for skips in (trial.with_skips, trial.without)
    )
    return paired_difference(left, right)


def _measure(
    trial: Trial,
    generator: np.random.Generator,
    *,
    least: float = 0.1,
    seeds: int = SEEDS,
) -> Measurement:
    # The interval is in the measured number, and no slack is given: a wide one must not help.
    low = _difference(trial, generator, seeds).low
    return Measurement(low, least, exact("the lower end of an interval is compared"))


def _measure_levels(trial: Trial, generator: np.random.Generator, *, seeds: int = SEEDS) -> Measurement:
    return _measure(trial, generator, least=0.05, seeds=seeds)


def _measure_at_most(trial: Trial, generator: np.random.Generator, *, seeds: int = SEEDS) -> Measurement:
    # To refute, the whole interval has to lie below.
    high = _difference(trial, generator, seeds).high
    return Measurement(high, 0.1, exact("the upper end of an interval is compared"))


SKIPS = Claim(
    id="segmentation.skips",
    title="Where masks have fine detail, a U-Net with skip connections has the higher IoU, by 0.1 at least",
    source="Solutions, question 4.2: mean validation IoU about 0.78 with, about 0.68 without",
    statement=(
        f"strokes a pixel wide; mean IoU of held-out images with minus without skips over {SEEDS} paired seeds"
        f" ({FULL_SEEDS} with --full); measured: the lower end of its 95 % interval; bound: the document's 0.78 − 0.68"
    ),
    hypotheses=(
        "the number of seeds is fixed in advance",
        "same images, same initial values where shapes agree",
    ),
    relation=">=",
    measure=_measure,
    full={"seeds": FULL_SEEDS},
    subjects={
        "off": lambda: Trial(strokes),
        "zeros-in-their-place": lambda: Trial(strokes, without="zero"),
    },
    falsifiers={
        "nothing-crosses": Falsifier(
            "zeros in the place of what the skips carry", lambda: Trial(strokes, with_skips="zero")
        ),
        "blocks": Falsifier("masks without detail finer than the deepest level", lambda: Trial(blocks)),
    },
)

FINEST = Claim(
    id="segmentation.finest-level",
    title="On strokes a pixel wide the finest skip alone does more than the coarser one alone",
    source="Beyond the document: which of the skips it is",
    statement=(
        "as `segmentation.skips`, the skip of level 0 alone minus that of level 1 alone (zeros in the place of the"
        " other); bound: 0.05"
    ),
    hypotheses=("the number of seeds is fixed in advance", "same images, same initial values"),
    relation=">=",
    measure=_measure_levels,
    full={"seeds": FULL_SEEDS},
    subjects={"strokes": lambda: Trial(strokes, _FINEST, _COARSER)},
    falsifiers={
        "blocks": Falsifier(
            "masks without detail finer than the deepest level", lambda: Trial(blocks, _FINEST, _COARSER)
        ),
    },
)

ALWAYS = Claim(
    id="segmentation.skips-always-as-printed",
    title="“The U-Net performed better when skip connections were enabled”, whatever the data",
    source="Solutions, question 4.2, read as a statement about U-Nets",
    statement=(
        "on any data the difference of `segmentation.skips` may be 0.1; measured: the upper end of its 95 % interval;"
        " bound: 0.1"
    ),
    hypotheses=(
        "the number of seeds is fixed in advance",
        "same images, same initial values where shapes agree",
    ),
    relation=">=",
    measure=_measure_at_most,
    full={"seeds": FULL_SEEDS},
    subjects={"blocks": lambda: Trial(blocks)},
    falsifiers={
        "strokes": Falsifier(
            "masks of strokes a pixel wide, where it is true", lambda: Trial(strokes), expected="holds"
        )
    },
    expected="refuted",
)
