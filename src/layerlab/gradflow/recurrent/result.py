"""What was measured of the Jacobians through time, and how it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerlab.gradflow.recurrent import horizon
from layerlab.gradflow.recurrent.curves import Curves
from layerlab.gradflow.recurrent.horizon import Horizon, Verdict

Values = NDArray[np.float64]

ANY_INPUT = "theorem, any input"
AT_INPUTS = "local, at these inputs"
ESTIMATED = "local, at these inputs; estimated"
"""A product of norms each of which Lanczos' method found, from below and to the tolerance."""


@dataclass(frozen=True, eq=False)
class Bound:
    """An upper bound of σ_max(∂s_t/∂s_1).

    Attributes:
        name: "weights" (of any input), "gates" (of the gates and slopes measured) or "steps" (the product of the
            measured norms of the steps).
        kind: `ANY_INPUT`, `AT_INPUTS` or `ESTIMATED`.
        statement: in a formula.
        log: (B, T), its logarithm at lags 0, …, T − 1.
    """

    name: Literal["weights", "gates", "steps"]
    kind: str
    statement: str
    log: Values


@dataclass(frozen=True, eq=False)
class Carry:
    """The path through the gates alone: forget gates of an LSTM's cell, update gates of a GRU.

    Attributes:
        gate: "forget" or "update".
        log_largest: (B, T), log max_i ∏ f_(s,i): of the unit that keeps most.
        log_median: (B, T), of the median unit.
    """

    gate: Literal["forget", "update"]
    log_largest: Values
    log_median: Values


@dataclass(frozen=True, eq=False)
class LayerTime:
    """One recurrent layer and direction, on one sequence: B samples of T steps, with a state of S entries.

    Steps are counted in the order in which they are processed: from the end, for a backward direction. The state s
    is h, and (h, c) of an LSTM. Behind the end of a sample of a packed sequence the curves are NaN.

    Attributes:
        name: of the module in the model, "" for the model itself.
        module: its type's name.
        layer: in the module, from 0.
        direction: "forward" or "backward".
        sequence: which of the sequences that the module reads in one forward pass, from 0.
        calls: of the module, that this sequence is made of.
        samples: B.
        steps: T.
        state: S.
        curves: log σ_max and σ_min of ∂s_t/∂s_1, and of each step.
        bounds: from the widest to the closest in kind: of the weights, of the gates, of the steps.
        carry: of an LSTM or GRU; None for an RNN.
        threshold: of the horizons and the verdict.
    """

    name: str
    module: str
    layer: int
    direction: Literal["forward", "backward"]
    sequence: int
    calls: int
    samples: int
    steps: int
    state: int
    curves: Curves
    bounds: tuple[Bound, ...]
    carry: Carry | None
    threshold: float

    @property
    def median(self) -> Values:
        """(T), the median over the samples of log σ_max(∂s_t/∂s_1)."""
        return _median(self.curves.largest)

    @property
    def vanishing(self) -> Horizon:
        """Where the median falls below the threshold."""
        return horizon.below(self.median, self.threshold)

    @property
    def exploding(self) -> Horizon:
        """Where the median rises above 1/threshold."""
        return horizon.above(self.median, 1 / self.threshold)

    @property
    def rate(self) -> float:
        """Growth of the median's logarithm for a step, over the second half of the sequence; NaN for T < 5 or so."""
        return horizon.rate(self.median)

    @property
    def verdict(self) -> Verdict:
        """Of the median over the samples, see `layerlab.gradflow.recurrent.horizon.verdict`."""
        return horizon.verdict(self.median, self.threshold)

    @property
    def label(self) -> str:
        """Which layer, in words: ``"encoder (GRU) layer 1 backward"``."""
        parts = [f"{self.name or 'the model'} ({self.module})", f"layer {self.layer}", self.direction]
        return " ".join(parts + ([f"sequence {self.sequence}"] if self.sequence else []))

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        last = self.steps - 1
        if self.verdict == "exploding":
            return f"exploding: σ_max exceeds {1 / self.threshold:g} at lag {self.exploding.first} of {last}"
        if self.verdict == "vanishing":
            settled = f", and stays there from lag {self.vanishing.settled} on"
            return (
                f"vanishing: σ_max falls below {self.threshold:g} at lag {self.vanishing.first} of {last}"
                + ("" if self.vanishing.settled == self.vanishing.first else settled)
            )
        ahead = [
            f"; extrapolated, it would {verb} from lag {at.first} on"
            for verb, at in (("vanish", self.vanishing), ("explode", self.exploding))
            if at.extrapolated
        ]
        return f"healthy: the gradient reaches over all {last} lags" + "".join(ahead)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers, strings and lists; None for a logarithm of zero, or of nothing."""
        curves = self.curves
        return {
            "name": self.name,
            "module": self.module,
            "layer": self.layer,
            "direction": self.direction,
            "sequence": self.sequence,
            "calls": self.calls,
            "label": self.label,
            "samples": self.samples,
            "steps": self.steps,
            "state": self.state,
            "method": curves.method,
            "products": curves.products,
            "verdict": self.verdict,
            "summary": self.summary,
            "rate": _plain(self.rate),
            "vanishing": vars(self.vanishing).copy(),
            "exploding": vars(self.exploding).copy(),
            "sample_verdicts": [horizon.verdict(one, self.threshold) for one in curves.largest],
            "sample_vanishing": [horizon.below(one, self.threshold).first for one in curves.largest],
            "sample_exploding": [horizon.above(one, 1 / self.threshold).first for one in curves.largest],
            "log_sigma_max": _spread(curves.largest),
            "log_sigma_min": None if curves.smallest is None else _spread(curves.smallest),
            "relative_error": _plain(_over(np.fmax, curves.error)),
            "log_step_sigma_max": _spread(curves.steps),
            "bounds": [
                {
                    "name": bound.name,
                    "kind": bound.kind,
                    "statement": bound.statement,
                    "log": _plain(_median(bound.log)),
                    "log_slack_at_end": _plain(_slack(bound.log, curves.largest)),
                }
                for bound in self.bounds
            ],
            "carry": None
            if self.carry is None
            else {
                "gate": self.carry.gate,
                "log_largest": _plain(_median(self.carry.log_largest)),
                "log_median": _plain(_median(self.carry.log_median)),
            },
        }


@dataclass(frozen=True, eq=False)
class ThroughTime:
    """All recurrent layers and directions of a model.

    Attributes:
        layers: in the order of their calls.
        threshold: of the horizons and verdicts.
        seed: of dropout and of random starts.
        notes: what a reader must know of these numbers.
    """

    layers: tuple[LayerTime, ...]
    threshold: float
    seed: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the layers as `LayerTime.to_dict`."""
        return {
            "threshold": self.threshold,
            "seed": self.seed,
            "notes": list(self.notes),
            "layers": [layer.to_dict() for layer in self.layers],
        }


def _median(values: Values) -> Values:
    """Over the samples that are there at each lag; zeros (−∞) count as such."""
    columns = (column[~np.isnan(column)] for column in values.T)
    with np.errstate(invalid="ignore"):
        return np.array([np.median(column) for column in columns])


def _over(reduce: np.ufunc, values: Values) -> Values:
    return np.asarray(reduce.reduce(values, axis=0))


def _slack(bound: Values, measured: Values) -> float:
    """The median over the samples of log bound − log σ at each one's last lag; NaN where all are zero."""
    last = (~np.isnan(measured)).sum(axis=1) - 1
    rows = np.arange(len(measured))
    known = np.isfinite(measured[rows, last])
    slack = bound[rows, last][known] - measured[rows, last][known]
    return float(np.median(slack)) if slack.size else float("nan")


def _spread(values: Values) -> dict[str, Any]:
    return {
        "median": _plain(_median(values)),
        "min": _plain(_over(np.fmin, values)),
        "max": _plain(_over(np.fmax, values)),
    }


def _plain(values: Values | float) -> Any:
    """Lists and floats, None where not finite."""
    if isinstance(values, float):
        return values if np.isfinite(values) else None
    return [float(value) if np.isfinite(value) else None for value in values]
