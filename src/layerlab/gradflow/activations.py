"""Elementwise activations and softmax, recognised below autograd: their slopes, and who lies flat.

Recognised by the operation that torch computes, so a module, a function and an operation in place count alike.
What is put together from several operations (softsign, a maximum with zero, fused attention) is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from layerlab.gradflow.flow import Seen

SATURATED = 0.05
"""An entry is saturated where |f'| is below this share of the largest slope f has anywhere.

At 5 per cent three such layers in a row leave less than 1/8000 of a gradient, while the linear range is far away: for
sigmoid it is |x| > 4.36, for tanh |x| > 2.18, where the output is within 1.3 per cent of the range from its end.
"""

CERTAIN = 0.999
"""A row of a softmax is saturated where one probability is above this; its Jacobian's norm is then below 0.002."""

_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Activation:
    """What one call of an activation f does to gradients on a batch.

    Attributes:
        kind: "relu", "sigmoid", ..., as torch's functions are called; "softmax" and "log_softmax" are not elementwise.
        module: the innermost module that was running; "" is the model.
        call: which of its calls that was.
        units: channels of an input of 4 or more dimensions (N, C, ...), else the entries of the last dimension; 1
            without a batch dimension. For softmax, the entries of a row.
        slope_rms: root mean square of f'(x) over all entries. For softmax of the singular values of the Jacobians.
        slope_max: the largest |f'| over all real inputs; for softmax the largest norm of a Jacobian, 1/2.
        saturated: share of entries with |f'(x)| < `SATURATED` · slope_max; for softmax, of rows whose largest
            probability is above `CERTAIN`.
        dead: share of units whose f' is 0 at every sample and position; None for softmax.
        off: share of entries whose f' is 0, in this precision; None for softmax.
        input_rms: root mean square of x.
        input_absmax: the largest |x|.
    """

    kind: str
    module: str
    call: int
    units: int
    slope_rms: float
    slope_max: float
    saturated: float
    dead: float | None
    off: float | None
    input_rms: float
    input_absmax: float

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def look(seen: Seen) -> Callable[[Any], Activation] | None:
    """Measures an activation whose input depends on the model's; a `layerlab.gradflow.flow.Look`.

    Args:
        seen: the operation that comes.

    Returns:
        For an activation, what gives the measurement once the result is there (the input is read now: it may be
        overwritten); for anything else None.

    >>> from torch import nn
    >>> from layerlab.gradflow import flow
    >>> from layerlab.gradflow.evaluation import Call
    >>> x = torch.tensor([[-1.0, 2.0, 9.0], [-3.0, -1.0, 9.0]])
    >>> seen = flow.record(Call.of(nn.ReLU(), x, None, None, 0), look).operations[0].note
    >>> seen.kind, seen.units, round(seen.dead, 3), seen.off, round(seen.slope_rms, 3)
    ('relu', 3, 0.333, 0.5, 0.707)
    """
    name = seen.name.removeprefix("aten::").removesuffix("_")
    if (name not in _SLOPES and name not in _SOFTMAX) or not seen.depends or not seen.depends[0]:
        return None
    given = seen.named()
    x = next(iter(given.values()))
    if not x.is_floating_point() or x.numel() == 0:
        return None
    with torch.no_grad():
        if name in _SOFTMAX:
            size, absmax = _size(x)
            return lambda result: _softmax(name, seen, result, int(given["dim"]), size, absmax)
        measured = _elementwise(name, seen, x, given)
    return lambda result: measured


def _elementwise(name: str, seen: Seen, x: Tensor, given: Mapping[str, Any]) -> Activation:
    channel = 1 if x.ndim >= 4 else x.ndim - 1
    units = x.shape[channel] if x.ndim >= 2 else 1
    asleep = torch.ones(units, dtype=torch.bool, device=x.device)
    energy, saturated, off = 0.0, 0, 0
    for part in _parts(x, given):
        part = part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
        kind, slope, largest = _SLOPES[name](part, given)
        slope = slope.abs_()
        asleep &= (slope.transpose(0, channel).flatten(1).amax(1) if x.ndim >= 2 else slope.amax()) == 0
        energy += float(torch.linalg.vector_norm(slope)) ** 2
        saturated += int(torch.count_nonzero(slope < SATURATED * largest))
        off += int(torch.count_nonzero(slope == 0))
    size, absmax = _size(x)
    total = x.numel()
    return Activation(
        kind,
        seen.module,
        seen.call,
        units,
        math.sqrt(energy / total),
        largest,
        saturated / total,
        int(torch.count_nonzero(asleep)) / units,
        off / total,
        size,
        absmax,
    )


def _parts(x: Tensor, given: Mapping[str, Any]) -> Sequence[Tensor]:
    """``x``, on the CPU some samples at a time, so that what is made of them stays in the cache."""
    across = any(isinstance(v, Tensor) and v.ndim == x.ndim and v.shape[0] > 1 for v in [*given.values()][1:])
    if x.device.type != "cpu" or x.ndim < 2 or across:
        return (x,)
    return x.split(max(1, _AT_ONCE * x.shape[0] // x.numel()))


def _softmax(name: str, seen: Seen, result: Tensor, dim: int, size: float, absmax: float) -> Activation:
    p = result.float() if result.dtype in (torch.float16, torch.bfloat16) else result
    log = name == "_log_softmax"
    with torch.no_grad():
        p = p.exp() if log else p
        length = p.shape[dim] if p.ndim else 1
        certain = float((p.amax(dim) > CERTAIN).double().mean())
        squares = p * p
        second = squares.sum(dim)
        # Squared Frobenius norm of diag(p) - p pᵀ; of log softmax, I - 1 pᵀ.
        energy = length - 2 + length * second if log else second - 2 * (squares * p).sum(dim) + second**2
        slope = math.sqrt(max(float(energy.double().mean()), 0.0) / length)
    # The norm of I - 1 pᵀ is largest where one p is 1.
    largest = math.sqrt(length) if log else 0.5
    kind = name.removeprefix("_").removeprefix("safe_")
    return Activation(kind, seen.module, seen.call, length, slope, largest, certain, None, None, size, absmax)


def _size(x: Tensor) -> tuple[float, float]:
    """Root mean square and largest magnitude."""
    low, high = torch.aminmax(x.detach())
    absmax = float(torch.maximum(low.abs(), high.abs()))
    norm = float(torch.linalg.vector_norm(x, dtype=torch.float32 if x.element_size() < 4 else None))
    if math.isinf(norm) and math.isfinite(absmax):  # the squares are beyond float32
        norm = float(torch.linalg.vector_norm(x, dtype=torch.float64))
    return norm / math.sqrt(x.numel()), absmax


# Each: input and arguments -> kind, f'(x) as a new tensor, the largest |f'| anywhere. At a kink f' is what torch's
# backward pass takes, since that is what the gradient sees.
_Slope = tuple[str, Tensor, float]


def _step(kind: str, on: Tensor, x: Tensor, below: Any = 0.0) -> _Slope:
    """1 where ``on``, elsewhere ``below``."""
    if isinstance(below, Tensor):
        largest = max(1.0, float(below.detach().abs().max()))
        return kind, torch.where(on, 1.0, below.detach()).to(x.dtype), largest
    slope = on.to(x.dtype)
    if below:
        slope = slope.mul_(1 - below).add_(below)
    return kind, slope, max(1.0, abs(below))


def _sigmoid(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    y = torch.sigmoid(x)
    return "sigmoid", y * (1 - y), 0.25


def _tanh(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    y = torch.tanh(x)
    return "tanh", 1 - y * y, 1.0


def _hardtanh(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    low, high = given["min_val"], given["max_val"]
    return _step("relu6" if (low, high) == (0, 6) else "hardtanh", (x > low) & (x < high), x)


def _elu(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    """scale·x above 0, scale·alpha·(exp(input_scale·x) - 1) below."""
    alpha, scale, stretch = (float(given[name]) for name in ("alpha", "scale", "input_scale"))
    below = torch.exp(stretch * x.clamp(max=0)).mul_(scale * alpha * stretch)
    kind = "elu" if scale == 1 else "selu"
    return kind, torch.where(x > 0, scale, below), abs(scale) * max(1.0, abs(alpha * stretch))


def _celu(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    alpha = float(given["alpha"])
    _, slope, largest = _elu(x, {"alpha": alpha, "scale": 1.0, "input_scale": 1 / alpha})
    return "celu", slope, largest


def _gelu(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    if given["approximate"] == "tanh":
        k, c = math.sqrt(2 / math.pi), 0.044715
        square = x * x
        t = torch.tanh(k * x * (1 + c * square))
        return "gelu", 0.5 * (1 + t) + 0.5 * k * x * (1 - t * t) * (1 + 3 * c * square), 1.1289930686587717
    density = torch.exp(-0.5 * x * x).div_(math.sqrt(2 * math.pi))
    # At the square root of 2: Φ(√2) + √2 φ(√2).
    return "gelu", torch.special.ndtr(x).add_(x * density), 1.128904145185155


def _silu(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    y = torch.sigmoid(x)
    return "silu", y * (1 + x * (1 - y)), 1.099839320128867  # at x = 2.39936


def _mish(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    t = torch.tanh(torch.nn.functional.softplus(x))
    return "mish", t + x * (1 - t * t) * torch.sigmoid(x), 1.088498161251728  # at x = 1.49057


def _softplus(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    scaled = x * float(given["beta"])
    return "softplus", torch.where(scaled > given["threshold"], 1.0, torch.sigmoid(scaled)), 1.0


def _hardswish(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    slope = torch.where(x < 3, x / 3 + 0.5, 1.0)
    return "hardswish", torch.where(x > -3, slope, 0.0), 1.5


def _hardsigmoid(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    return "hardsigmoid", ((x > -3) & (x < 3)).to(x.dtype).div_(6), 1 / 6


def _clamp(x: Tensor, given: Mapping[str, Any]) -> _Slope:
    on = torch.ones_like(x, dtype=torch.bool)
    for name, within in (("min", torch.ge), ("max", torch.le)):
        if given.get(name) is not None:
            on = on & within(x, given[name])
    return _step("clamp", on, x)


_SLOPES: dict[str, Callable[[Tensor, Mapping[str, Any]], _Slope]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "relu": lambda x, given: _step("relu", x > 0, x),
    "hardtanh": _hardtanh,
    "leaky_relu": lambda x, given: _step("leaky_relu", x > 0, x, float(given["negative_slope"])),
    "_prelu_kernel": lambda x, given: _step("prelu", x > 0, x, given["weight"]),
    "elu": _elu,
    "celu": _celu,
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "softplus": _softplus,
    "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid,
    "log_sigmoid_forward": lambda x, given: ("log_sigmoid", torch.sigmoid(-x), 1.0),
    "threshold": lambda x, given: _step("threshold", x > given["threshold"], x),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
}

_SOFTMAX = ("_softmax", "_log_softmax", "_safe_softmax")
