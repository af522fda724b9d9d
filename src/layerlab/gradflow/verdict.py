"""Whether gradients survive a model, and if not, in which layer they are lost and why.

What is looked at is the gradient at every bottleneck, relative to that at the output, in root mean square over samples
and random directions: of a layer that is initialised to keep variances the expected factor is about 1, whatever its
width. Averages over places and softmax shrink it by design, and are taken out.

The thresholds were chosen on one half of a set of models with planted faults and of healthy ones, and tried once on
the other half; docs/gradients.md has the figures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerlab.gradflow.activations import Activation
from layerlab.gradflow.layer_profile import GradientLayer, Part, finite
from layerlab.gradflow.recurrent import LayerTime

Values = NDArray[np.float64]
Norms = Callable[[int], Sequence[float]]
Kind = Literal["healthy", "vanishing", "exploding"]
Cause = Literal[
    "saturation",
    "dead units",
    "small norm",
    "large norm",
    "slope",
    "missing residual",
    "detached",
    "recurrent norm",
]

VANISHED = math.log(1e-3)
"""log of the share of the output's gradient below which it has vanished, over the whole depth."""

LOST = math.log(0.05)
"""log of the factor of one layer below which the gradient is lost in it."""

EXPLODED = math.log(1e3)
"""log of the factor over the output's gradient above which it has exploded."""

BLOWN_UP = math.log(100.0)
"""log of the factor of one layer above which the gradient blows up in it."""

SATURATED_SHARE = 0.5
"""Share of an activation's entries (of a softmax's rows) beyond the linear range above which it is to blame."""

# The same for units that are off at every sample, and for values that are.
_DEAD, _OFF = 0.5, 0.95

# Half of their values are off by design: they are asleep where they are off for all samples.
_RECTIFIERS = {"relu", "relu6", "threshold", "leaky_relu", "prelu", "rrelu"}

# In a branch beside which the signal goes on, next to nothing may be left before it is a fault.
_BRANCH_SATURATED, _BRANCH_DEAD = 0.9, 0.9

# A recurrent layer may lose much between its ends, as long as its state remembers; it has lost its memory when a
# hundredth of the gradient is left after this share of the sequence. Fewer steps than _STEPS tell nothing.
_REMEMBERED, _STEPS = 0.1, 10
_RECURRENT = re.compile(r"\b(RNN|LSTM|GRU)(Cell)?\b")

# What such an operation drops of a gradient has gone to a constant, or nowhere: no weight has a part in it.
_ROUTING = {
    "cat",
    "stack",
    "add",
    "sub",
    "index",
    "index_select",
    "gather",
    "select",
    "slice",
    "copy",
    "clone",
}
_ROUTING |= {"constant_pad_nd", "where", "masked_fill", "roll", "flip", "unfold"}

# log of the factor of a layer with weights, below which small weights are to blame rather than the missing skip.
_SMALL = math.log(0.3)


@dataclass(frozen=True)
class Verdict:
    """What becomes of the gradient.

    Attributes:
        kind: "healthy", "vanishing" or "exploding".
        layer: where: the layer to blame, or, where all of them take part, the one at which the threshold is passed
            on the way back; None if healthy.
        module: the module to blame within it; None if healthy.
        cause: "saturation" (units beyond the linear range), "dead units", "small norm", "large norm", "slope" (the
            activation's slope, over depth), "missing residual" (each of many layers loses a little), "detached",
            "recurrent norm"; None if healthy.
        sentence: all this in words, with figures.
        log_factor: log of the gradient at the input (or where it is least or greatest) relative to the output's.
    """

    kind: Kind
    layer: str | None
    module: str | None
    cause: Cause | None
    sentence: str
    log_factor: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "layer": self.layer,
            "module": self.module,
            "cause": self.cause,
            "sentence": self.sentence,
            "log_factor": finite(self.log_factor),
        }


def judge(
    layers: Sequence[GradientLayer],
    output_gradient: Values,
    recurrent: Sequence[LayerTime],
    norms: Norms,
) -> Verdict:
    """The verdict on layers measured from the input to the output.

    Args:
        layers: in order.
        output_gradient: (B), log ‖∂loss/∂output‖.
        recurrent: Jacobians through time of the recurrent layers among them.
        norms: of a layer, by its number, the most that each of its parts can amplify; asked of a layer to blame.
    """
    size = np.array([_mean(layer.gradient) for layer in layers] + [_mean(output_gradient)])
    designed = np.array([layer.designed for layer in layers])
    with np.errstate(invalid="ignore"):
        factors = size[:-1] - size[1:] - designed
    factors[np.isneginf(size[1:])] = 0.0  # in front of a layer that lets nothing pass, nothing is known
    factors[[f < 0 and _routes(layer) for f, layer in zip(factors, layers, strict=True)]] = 0.0
    factors = _with_normalisation(layers, factors)
    # What is left of the output's gradient in front of each layer.
    left = np.cumsum(factors[::-1])[::-1]
    if (cut := _cut(layers)) is not None:
        return cut
    if (found := _through_time(recurrent)) is not None:
        return found
    alone = np.array(
        [0.0 if _RECURRENT.search(layer.kind) else f for layer, f in zip(layers, factors, strict=True)]
    )
    worst, best = int(alone.argmin()), int(factors.argmax())
    if left.min() < VANISHED or alone[worst] < LOST:
        return _vanishing(layers, factors, left, worst, norms)
    if left.max() > EXPLODED or factors[best] > BLOWN_UP:
        return _exploding(layers, factors, left, best, norms)
    if (stopped := _branch_fault(layers)) is not None:
        return stopped
    return Verdict("healthy", None, None, None, _healthy(left), float(left[0]))


def _cut(layers: Sequence[GradientLayer]) -> Verdict | None:
    """Where the gradient is cut last on its way forward, or rather where that piece of the way begins."""
    last = next((i for i in reversed(range(len(layers))) if not layers[i].attached), None)
    if last is None:
        return None
    first = last
    while first and not layers[first - 1].attached:
        first -= 1
    layer = layers[first]
    upto = f" to {_named(layers[last])}" if last > first else ""
    sentence = (
        f"no gradient passes {_named(layer)}{upto} (detach, no_grad, integers, or a checkpoint with"
        " use_reentrant=True): nothing before it is seen to learn"
    )
    return Verdict("vanishing", layer.name, layer.module, "detached", sentence, -math.inf)


def _with_normalisation(layers: Sequence[GradientLayer], factors: Values) -> Values:
    """Factors with what a normalisation makes up for put to the layer before it.

    It divides by the size of what it gets, whatever that is, and multiplies the gradient by the inverse: after a layer
    that shrinks values that much has been lost there, and at the input there is nothing to make up for.
    """
    settled = factors.copy()
    for i, layer in enumerate(layers):
        if factors[i] > 0 and layer.parts and all(_normalises(part) for part in layer.parts):
            settled[i] = 0.0
            if i:
                settled[i - 1] += factors[i]
    return settled


def _routes(layer: GradientLayer) -> bool:
    """Whether a layer only puts values together or drops some: a class token, padding, a part that is not read."""
    return (
        not layer.activations
        and bool(layer.parts)
        and all(part.operation in _ROUTING for part in layer.parts)
    )


def _normalises(part: Part) -> bool:
    return "norm" in part.operation and part.scope == "these inputs"


def _through_time(recurrent: Sequence[LayerTime]) -> Verdict | None:
    """The first recurrent layer whose state forgets at once, or explodes."""
    for layer in recurrent:
        last = layer.steps - 1
        lag = layer.vanishing.first
        if float(layer.median.max()) > EXPLODED:
            size = _times(float(layer.median.max()))
            sentence = f"in {layer.label} the gradient grows through time, up to {size} over {last} steps"
            return Verdict(
                "exploding", layer.name, layer.name, "recurrent norm", sentence, float(layer.median.max())
            )
        if last >= _STEPS and lag is not None and lag <= _REMEMBERED * last:
            sentence = (
                f"in {layer.label} {_percent(math.log(layer.threshold))} of the gradient is left after {lag} of {last}"
                " steps: the state forgets"
            )
            return Verdict(
                "vanishing", layer.name, layer.name, "recurrent norm", sentence, float(layer.median[-1])
            )
    return None


def _vanishing(
    layers: Sequence[GradientLayer], factors: Values, left: Values, worst: int, norms: Norms
) -> Verdict:
    total = float(left.min())
    losses = np.minimum(factors, 0.0)
    if factors[worst] < LOST or factors[worst] < losses.sum() / 2:
        cause = _own_cause(layers[worst])
        if cause == "dead units":
            # Where everything is off, nothing after it has a reason to be on: the first such layer is to blame.
            worst = next((i for i in range(worst) if _all_off(layers[i])), worst)
        layer = layers[worst]
        passes = -math.inf if _all_off(layer) else float(factors[worst])
        if cause == "small norm":
            norm, module = min(
                _bounded(layer, norms(worst)), key=itemgetter(0), default=(math.nan, layer.module)
            )
            because = f"its weights are too small (largest singular value {norm:.2g})"
        else:
            module, because = layer.module, _because(layer, cause)
        sentence = f"in {_named(layer)} {_percent(passes)} of the gradient is left: {because}"
        return Verdict("vanishing", layer.name, module, cause, sentence, total)
    first = int(np.flatnonzero(left < VANISHED).max())
    cause = _shared_cause(layers, losses)
    sentence = (
        f"{_percent(total)} of the output's gradient is left at the input, less than {_percent(VANISHED)} from "
        f"{_named(layers[first])} on: {_SHARED[cause]}"
    )
    return Verdict("vanishing", layers[first].name, layers[first].module, cause, sentence, total)


def _exploding(
    layers: Sequence[GradientLayer], factors: Values, left: Values, best: int, norms: Norms
) -> Verdict:
    total = float(left.max())
    gains = np.maximum(factors, 0.0)
    layer = layers[best]
    if factors[best] > BLOWN_UP or factors[best] > gains.sum() / 2:
        sentence = (
            f"in {_named(layer)} the gradient grows by {_times(factors[best])}: its weights are too large"
        )
    else:
        first = int(np.flatnonzero(left > EXPLODED).max())
        sentence = (
            f"the gradient grows to {_times(total)} that of the output, to more than {_times(EXPLODED)} from "
            f"{_named(layers[first])} on: many layers add to it, {_named(layer)} most"
        )
    _, module = max(_bounded(layer, norms(best)), key=itemgetter(0), default=(math.nan, layer.module))
    return Verdict("exploding", layer.name, module, "large norm", sentence, total)


def _all_off(layer: GradientLayer) -> bool:
    return any(a.kind in _RECTIFIERS and a.off == 1.0 for a in layer.activations)


def _bounded(layer: GradientLayer, norms: Sequence[float]) -> list[tuple[float, str]]:
    """The most that an operation can amplify, and its module, where there is a rule."""
    return [
        (norm, part.module or layer.module)
        for norm, part in zip(norms, layer.parts, strict=True)
        if part.scope != "unknown"
    ]


def _own_cause(layer: GradientLayer) -> Cause:
    """Of a layer in which the gradient is lost."""
    return _asleep(layer.activations, _DEAD, _OFF, SATURATED_SHARE) or "small norm"


def _asleep(activations: Iterable[Activation], dead: float, off: float, saturated: float) -> Cause | None:
    """Whether units are off or beyond the linear range, in shares at least these."""
    for activation in activations:
        if activation.kind in _RECTIFIERS:
            if (activation.dead or 0.0) >= dead or (activation.off or 0.0) >= off:
                return "dead units"
        elif activation.saturated >= saturated:
            return "saturation"
    return None


_SHARED: dict[str, str] = {
    "saturation": "the units of many layers are beyond the linear range",
    "dead units": "most units of many layers are off",
    "slope": "the slope of the activation is below 1 everywhere, and the factors multiply",
    "small norm": "the weights of many layers are too small",
    "missing residual": "each layer loses a little, and no connection leads around them",
}


def _shared_cause(layers: Sequence[GradientLayer], losses: Values) -> Cause:
    """Of a loss that no layer has alone: where most of it is."""
    shares: dict[Cause, float] = {}
    for layer, loss in zip(layers, losses, strict=True):
        cause: Cause
        if asleep := _asleep(layer.activations, _DEAD, _OFF, SATURATED_SHARE):
            cause = asleep
        elif any(a.slope_max < 1 for a in layer.activations):
            cause = "slope"
        else:
            cause = "small norm" if loss < _SMALL else "missing residual"
        shares[cause] = shares.get(cause, 0.0) - float(loss)
    return max(shares, key=lambda cause: shares[cause])


def _branch_fault(layers: Sequence[GradientLayer]) -> Verdict | None:
    """A branch that has stopped, while the signal goes around it."""
    for layer in layers:
        for activation in layer.activations:
            cause = _asleep([activation], _BRANCH_DEAD, 1.0, _BRANCH_SATURATED)
            if cause is not None:
                module = activation.module or layer.module
                sentence = f"the branch through {module} has stopped: {_because(layer, cause)}"
                return Verdict("vanishing", layer.name, module, cause, sentence, -math.inf)
    return None


def _because(layer: GradientLayer, cause: Cause) -> str:
    """Of units that are dead or saturated."""
    if cause == "dead units":
        dead = max((a.dead or 0.0 for a in layer.activations), default=0.0)
        off = max((a.off or 0.0 for a in layer.activations), default=0.0)
        return f"{100 * dead:.0f} % of its units are dead, {100 * off:.0f} % of their values off"
    share = max(a.saturated for a in layer.activations)
    return f"{100 * share:.0f} % of its units are beyond the linear range"


def _healthy(left: Values) -> str:
    low, high = _percent(float(left.min())), _percent(float(left.max()))
    return f"from {low} to {high} of the output's gradient everywhere"


def _named(layer: GradientLayer) -> str:
    return layer.name if ":" in layer.name or layer.kind == layer.name else f"{layer.name} ({layer.kind})"


def _percent(log: float) -> str:
    """A share in words: per cent, a power of ten where that would be all zeros, a multiple above ten times."""
    if log == -math.inf:
        return "nothing"
    if log < math.log(1e-5):
        return f"10^{log / math.log(10):.1f}".replace("-", "−")
    return f"{100 * math.exp(log):.3g} %" if log < math.log(10) else _times(log)


def _times(log: float) -> str:
    value = math.exp(min(log, 700.0))
    return f"{value:,.0f} times" if 100 <= value < 1e6 else f"{value:.3g} times"


def _mean(logs: Values) -> float:
    """log of the root mean square over samples."""
    top = float(logs.max())
    return top if top == -math.inf else top + float(np.log(np.mean(np.exp(2 * (logs - top))))) / 2
