"""The claims about convolution by relative-position attention (solutions, question 1.4.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.attention.convolution import RelativeAttention
from layerlab.attention.theorems import subjects
from layerlab.attention.theorems.subjects import gaussian, vector
from layerlab.claims import Claim, Falsifier, Measurement, Slack, rounding

# From offset t = i − j to p_t; −∞ at all others.
Biases: TypeAlias = Mapping[int, float]


@dataclass(frozen=True)
class PositionHead:
    """One head of relative-position attention that looks at positions only: W_Q = W_K = 0.

    Args:
        biases: p_t for each offset t = i − j that takes part.
        value: W_V, a number.
    """

    biases: Biases
    value: float


@dataclass(frozen=True)
class Convolution:
    """A zero-padded Conv1D of one channel: output_i = Σ_t taps_t x_(i−t), and x_j = 0 outside the signal.

    Args:
        x: the signal ``(n,)``, float64.
        taps: w_t by offset t = i − j.
    """

    x: Tensor
    taps: Mapping[int, float]

    def unmet(self) -> str | None:
        """The first hypothesis that is not satisfied."""
        if self.x.ndim != 1 or not 1 <= len(self.x) <= subjects.MOST:
            return f"x is not a signal of 1 to {subjects.MOST:,} samples"
        if not self.taps or self.reach > subjects.MOST:
            return f"there is no tap, or one beyond {subjects.MOST:,} samples away"
        if any(w != 0 and not 1e-140 <= abs(w) <= 1e140 for w in self.taps.values()):
            return "a tap that is not 0 is below 1e-140 or above 1e140 in magnitude, or not finite"
        return subjects.unfit(self.x)

    @property
    def reach(self) -> int:
        """The largest offset in magnitude."""
        return max(map(abs, self.taps))

    def layer(self) -> nn.Conv1d:
        """torch's layer with these taps."""
        size = 2 * self.reach + 1
        conv = nn.utils.skip_init(
            nn.Conv1d, 1, 1, size, padding=self.reach, bias=False, dtype=torch.float64
        ).requires_grad_(False)
        conv.weight.zero_()
        for offset, weight in self.taps.items():
            # torch correlates: its kernel's first entry meets the earliest sample, that of the largest offset.
            conv.weight[0, 0, self.reach - offset] = weight
        return conv

    def output(self) -> Tensor:
        """The convolution itself, by torch."""
        return self.layer()(self.x[None])[0]

    def slack(self) -> Slack:
        """What rounding leaves of max |attention − convolution|."""
        sizes = [abs(w) for w in self.taps.values() if w != 0]
        # exp(log w) is off by the rounding of log w, which is in proportion to it.
        condition = 1.0 + max((abs(math.log(size)) for size in sizes), default=0.0)
        scale = sum(sizes) * float(self.x.abs().max())
        return rounding("float64", 4 * len(self.taps) + 12, scale=scale or 1.0, condition=condition)


def attend(x: Tensor, head: PositionHead, pads: int) -> Tensor:
    """softmax_j(p_(i−j)) W_V x, row by row, with ``pads`` tokens of value 0 beside the signal.

    A row that sees no token has no weights: its output is 0, as everywhere in this package.
    """
    tokens = torch.nn.functional.pad(x, (pads, pads))
    offsets = torch.arange(len(x))[:, None] - (torch.arange(len(tokens)) - pads)
    scores = torch.full(offsets.shape, -math.inf, dtype=x.dtype)
    for offset, bias in head.biases.items():
        scores[offsets == offset] = bias
    some = torch.isfinite(scores).any(1, keepdim=True)
    weights = torch.where(some, scores, 0.0).softmax(1) * some
    return head.value * (weights @ tokens)


# ---------------------------------------------------------------------------------------------------------- conv1d

Build = Callable[[Mapping[int, float]], Sequence[PositionHead]]
# From a convolution to what is to equal its output.
Way = Callable[[Convolution], Tensor]


def _head(taps: Mapping[int, float], sign: float) -> PositionHead:
    return PositionHead({t: math.log(abs(w)) for t, w in taps.items()}, sign * sum(map(abs, taps.values())))


def by_sign(taps: Mapping[int, float]) -> list[PositionHead]:
    """A head for each sign that occurs among the taps."""
    signed = {sign: {t: w for t, w in taps.items() if sign * w > 0} for sign in (1.0, -1.0)}
    return [_head(chosen, sign) for sign, chosen in signed.items() if chosen]


def by_tap(taps: Mapping[int, float]) -> list[PositionHead]:
    """A head for each tap that is not 0."""
    return [PositionHead({t: 0.0}, w) for t, w in taps.items() if w != 0]


def _single(taps: Mapping[int, float]) -> list[PositionHead]:
    """Broken where signs are mixed: one head, whose weights are all of one sign."""
    return [_head({t: w for t, w in taps.items() if w != 0}, 1.0)]


def _values_not_summed(taps: Mapping[int, float]) -> list[PositionHead]:
    """Broken: W_V = ±1 in place of the sum of the taps."""
    return [PositionHead(head.biases, math.copysign(1.0, head.value)) for head in by_sign(taps)]


def _mirrored(taps: Mapping[int, float]) -> list[PositionHead]:
    """Broken: p_(j−i) in place of p_(i−j)."""
    return by_sign({-t: w for t, w in taps.items()})


def by_definition(convolution: Convolution, build: Build, pads: int | None = None) -> Tensor:
    """The sum of the heads, by their definition; as many pad tokens as the kernel reaches if None."""
    beside = convolution.reach if pads is None else pads
    out = torch.zeros_like(convolution.x)
    for head in build(convolution.taps):
        out = out + attend(convolution.x, head, beside)
    return out


def _shipped(convolution: Convolution, heads: Literal["sign", "tap"]) -> Tensor:
    module = RelativeAttention.from_conv1d(convolution.layer(), heads).requires_grad_(False)
    return module(convolution.x[None])[0]


_WAYS: tuple[Way, ...] = (
    partial(by_definition, build=by_sign),
    partial(by_definition, build=by_tap),
    partial(_shipped, heads="sign"),
    partial(_shipped, heads="tap"),
)


def _measure_conv1d(
    convolution: Convolution, generator: np.random.Generator, *, ways: Sequence[Way] = _WAYS
) -> Measurement:
    if reason := convolution.unmet():
        return Measurement.unmet_because(reason)
    expected = convolution.output()
    apart = [float((way(convolution) - expected).abs().max()) for way in ways]
    # max would drop a NaN that is not the first.
    return Measurement(float(np.max(apart)), bound=0.0, slack=convolution.slack())


_PRINTED = {1: 2.0, -1: 1.0}

CONV1D = Claim(
    id="attention.conv1d",
    title="Attention by relative position with pad tokens is a zero-padded convolution, on every row",
    source="Solutions, question 1.4.1, corrected",
    statement=(
        "pad tokens of value 0 beside the signal, as many on each side as the kernel reaches; p_t = log |w_t| for the"
        " taps of one sign, −∞ for all other offsets t = i − j, W_V = the sum of these taps: the heads add up to"
        " Σ_t w_t x_(i−t) on every row. Taps of one sign take one head; of both, one for each sign (or each tap);"
        " measured: max |attention − Conv1D| over the rows, by sign and by tap, by this definition and by"
        " `RelativeAttention.from_conv1d`"
    ),
    hypotheses=(
        "x is a float64 signal of 1 to 1,000 samples",
        "a tap is 0 or between 1e-140 and 1e140 in magnitude",
    ),
    relation="==",
    extreme="least",
    measure=_measure_conv1d,
    subjects={
        "printed-taps": lambda: Convolution(gaussian(9), _PRINTED),
        "single-sample": lambda: Convolution(vector(2.0), _PRINTED),
        "two-samples": lambda: Convolution(vector(1.0, 1.0), _PRINTED),
        "mixed-signs": lambda: Convolution(gaussian(50, seed=1), {1: 1.0, 0: -2.0, -1: 1.0}),
        "all-negative": lambda: Convolution(gaussian(50, seed=2), {2: -0.1, 0: -3.0}),
        "one-sided-far": lambda: Convolution(gaussian(20, seed=3), {7: 1.5, -3: -0.25}),
        "wider-than-the-signal": lambda: Convolution(gaussian(4, seed=4), {9: 1.0, 0: 1.0, -9: 1.0}),
        "gaussian-31": lambda: Convolution(
            gaussian(200, seed=5), {t - 15: float(w) for t, w in enumerate(gaussian(31, seed=6))}
        ),
        "all-zero": lambda: Convolution(gaussian(5, seed=7), {1: 0.0, 0: 0.0}),
        "tiny-and-huge": lambda: Convolution(gaussian(30, seed=8), {1: 1e-30, 0: -1e30}),
    },
    falsifiers={
        "no-pads": Falsifier(
            "pad tokens removed, as printed",
            lambda: Convolution(gaussian(9), _PRINTED),
            replaces={"ways": (partial(by_definition, build=by_sign, pads=0),)},
        ),
        "one-pad": Falsifier(
            "one pad token on each side, for a kernel that reaches two samples",
            lambda: Convolution(gaussian(9), {2: 1.0, 0: 1.0}),
            replaces={"ways": (partial(by_definition, build=by_sign, pads=1),)},
        ),
        "one-head": Falsifier(
            "one head for taps of both signs",
            lambda: Convolution(gaussian(50, seed=1), {1: 1.0, 0: -2.0, -1: 1.0}),
            replaces={"ways": (partial(by_definition, build=_single),)},
        ),
        "values-not-summed": Falsifier(
            "W_V = ±1 in place of the sum of the taps",
            lambda: Convolution(gaussian(9), _PRINTED),
            replaces={"ways": (partial(by_definition, build=_values_not_summed),)},
        ),
        "mirrored": Falsifier(
            "p_(j−i) in place of p_(i−j)",
            lambda: Convolution(gaussian(9), _PRINTED),
            replaces={"ways": (partial(by_definition, build=_mirrored),)},
        ),
        "not-finite": Falsifier(
            "a tap that is infinite",
            lambda: Convolution(gaussian(9), {1: math.inf}),
            expected="hypotheses unmet",
        ),
    },
)


# ------------------------------------------------------------------------------------------------------- as printed


@dataclass(frozen=True)
class Row:
    """One row of the printed construction for the taps w_1 = 2, w_(−1) = 1.

    Args:
        x: the signal ``(n,)``, float64.
        i: the row, 0 to n − 1.
        shift: p_(−1); p_1 is log 2 more.
    """

    x: Tensor
    i: int
    shift: float = 0.0


Value = Callable[[Biases], float]


def _sum_of_exponentials(biases: Biases) -> float:
    """As printed: W_V = Σ exp(p_k)."""
    return math.fsum(map(math.exp, biases.values()))


def _three(biases: Biases) -> float:
    """Corrected: the sum of the taps, whatever the shift."""
    return 3.0


def _measure_row(
    row: Row, generator: np.random.Generator, *, pads: int = 0, value: Value = _sum_of_exponentials
) -> Measurement:
    convolution = Convolution(row.x, _PRINTED)
    if reason := convolution.unmet():
        return Measurement.unmet_because(reason)
    if not 0 <= row.i < len(row.x):
        return Measurement.unmet_because(f"there is no row {row.i}")
    if not abs(row.shift) <= 100:
        return Measurement.unmet_because(f"a shift of {row.shift:g} is not between −100 and 100")
    if pads == 0 and len(row.x) == 1:
        return Measurement.unmet_because("the row sees no key, so its softmax is not defined")
    biases = {1: row.shift + math.log(2), -1: row.shift}
    measured = attend(row.x, PositionHead(biases, value(biases)), pads)[row.i]
    scale = (3.0 + value(biases)) * float(row.x.abs().max())
    slack = rounding("float64", 20, scale=scale or 1.0, condition=1.0 + abs(row.shift))
    expected = float(convolution.output()[row.i])
    if abs(expected) <= slack.value:
        return Measurement.unmet_because(f"the row is {expected:.1e}, 0 up to rounding")
    return Measurement(float(measured), expected, slack)


_ROW = (
    "x is a float64 signal of 2 to 1,000 samples: a row that sees no key has no softmax",
    "the row of the convolution is not 0 up to rounding",
)

CONV1D_EDGES_AS_PRINTED = Claim(
    id="attention.conv1d-edges-as-printed",
    title="As printed: without pad tokens the edge rows are those of the convolution",
    source="Solutions, question 1.4.1, as printed",
    statement=(
        "p_1 = log 2, p_(−1) = 0, W_V = 3: row n − 1 is 2 x_(n−2). False: softmax renormalises over the taps that"
        " remain, so row n − 1 is 3 x_(n−2), and row 0 is 3 x_1 in place of x_1; measured: the row; bound: that of"
        " the zero-padded Conv1D"
    ),
    hypotheses=_ROW,
    relation="==",
    measure=_measure_row,
    subjects={
        "last-of-2": lambda: Row(vector(1.0, 1.0), 1),
        "first-of-2": lambda: Row(vector(1.0, 1.0), 0),
        "last-of-9": lambda: Row(gaussian(9), 8),
        "first-of-9": lambda: Row(gaussian(9), 0),
    },
    falsifiers={
        "with-pads": Falsifier(
            "a pad token of value 0 on each side, as corrected",
            lambda: Row(vector(1.0, 1.0), 1),
            replaces={"pads": 1},
            expected="holds",
        ),
        "with-pads-first": Falsifier(
            "the same, row 0", lambda: Row(vector(1.0, 1.0), 0), replaces={"pads": 1}, expected="holds"
        ),
        "inside": Falsifier(
            "a row that sees both taps: there it is true", lambda: Row(gaussian(9), 4), expected="holds"
        ),
    },
    expected="refuted",
)

CONV1D_SHIFT_AS_PRINTED = Claim(
    id="attention.conv1d-shift-as-printed",
    title="As printed: any p_1 = p_(−1) + log 2 works",
    source="Solutions, question 1.4.1, last sentence, as printed",
    statement=(
        "p_1 = p_(−1) + log 2, W_V = Σ exp(p_k): every row inside is 2 x_(i−1) + x_(i+1). False for p_(−1) ≠ 0: W_V"
        " is 3 exp(p_(−1)), and so many times too large is the row; with W_V = 3 kept it is true; measured: the row;"
        " bound: that of the Conv1D"
    ),
    hypotheses=_ROW,
    relation="==",
    measure=_measure_row,
    subjects={
        "twice-as-large": lambda: Row(vector(1.0, 0.0, 1.0), 1, shift=math.log(2)),
        "shift-of-minus-1": lambda: Row(gaussian(9), 4, shift=-1.0),
    },
    falsifiers={
        "value-3": Falsifier(
            "W_V = 3, whatever the shift, as corrected",
            lambda: Row(vector(1.0, 0.0, 1.0), 1, shift=math.log(2)),
            replaces={"value": _three},
            expected="holds",
        ),
        "no-shift": Falsifier(
            "p_(−1) = 0: there it is true", lambda: Row(vector(1.0, 0.0, 1.0), 1), expected="holds"
        ),
    },
    expected="refuted",
)
