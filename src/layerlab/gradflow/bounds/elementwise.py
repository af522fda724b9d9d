"""How much elementwise operations amplify: the largest slope over all inputs, or at these."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from layerlab.gradflow.bounds.arguments import Arguments, Law, Rule, largest, numbers, repeats, scaled

GELU = 0.5 * (1.0 + math.erf(1.0)) + math.exp(-1.0) / math.sqrt(math.pi)
"""sup Φ(x) + x φ(x), at x = √2: 1.12890."""
GELU_TANH = 1.1289930687
"""Of its approximation with tanh, at x = 1.41850, rounded up."""
SILU = 1.0998393202
"""sup σ(x)(1 + x(1 − σ(x))), at x = 2.39936, rounded up."""
MISH = 1.0884981613
"""Of x tanh(log(1 + eˣ)), at x = 1.49057, rounded up."""

_SLOPES: dict[str, tuple[float, str]] = {
    "sigmoid": (0.25, "sigmoid: slope at most 1/4"),
    # torch's 1/6 is rounded to float32, whatever the dtype.
    "hardsigmoid": (0.16666667163372040, "hardsigmoid: slope at most 1/6"),
    "silu": (SILU, "SiLU: slope at most 1.0998"),
    "mish": (MISH, "Mish: slope at most 1.0885"),
    "hardswish": (1.5, "hardswish: slope at most 3/2"),
    "erf": (2 / math.sqrt(math.pi), "erf: slope at most 2/√π"),
    "erfc": (2 / math.sqrt(math.pi), "erfc: slope at most 2/√π"),
    **{
        name: (1.0, f"{label}: slope at most 1")
        for name, label in {
            "tanh": "tanh",
            "relu": "ReLU",
            "relu6": "ReLU6",
            "hardtanh": "hardtanh",
            "softplus": "softplus",
            "log_sigmoid_forward": "log-sigmoid",
            "softshrink": "softshrink",
            "abs": "absolute value",
            "sin": "sin",
            "cos": "cos",
            "atan": "atan",
            "asinh": "asinh",
            "celu": "CELU",
            "clamp_min": "clamp",
            "clamp_max": "clamp",
            "nan_to_num": "nan_to_num",
        }.items()
    },
    **dict.fromkeys(("neg", "positive"), (1.0, "negation")),
}

_JUMPS = dict.fromkeys(("threshold", "hardshrink", "frac", "fmod", "remainder"), 1.0) | dict.fromkeys(
    ("sign", "sgn", "floor", "ceil", "round", "trunc", "heaviside", "bernoulli"), 0.0
)

_DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "exp2": lambda x: math.log(2) * torch.exp2(x),
    "expm1": torch.exp,
    "log": torch.reciprocal,
    "log2": lambda x: 1 / (math.log(2) * x),
    "log10": lambda x: 1 / (math.log(10) * x),
    "log1p": lambda x: 1 / (1 + x),
    "sqrt": lambda x: 0.5 * x.rsqrt(),
    "rsqrt": lambda x: 0.5 * x.abs() ** -1.5,
    "reciprocal": lambda x: x**-2,
    "sinh": torch.cosh,
    "cosh": torch.sinh,
    "tan": lambda x: torch.cos(x) ** -2,
    "asin": lambda x: (1 - x**2).rsqrt(),
    "acos": lambda x: (1 - x**2).rsqrt(),
    "acosh": lambda x: (x**2 - 1).rsqrt(),
    "atanh": lambda x: 1 / (1 - x**2),
    "lgamma": torch.digamma,
    "erfinv": lambda x: 0.5 * math.sqrt(math.pi) * torch.exp(torch.erfinv(x) ** 2),
    "square": lambda x: 2 * x,
}


def _constant(slope: float, reason: str) -> Rule:
    return lambda a: Law({"self": slope}, reason)


def _jump(name: str, slope: float) -> Rule:
    return lambda a: Law({"self": slope}, f"{name}: slope {slope:.0f} between its jumps", "these inputs")


def _local(name: str, derivative: Callable[[Tensor], Tensor]) -> Rule:
    def rule(a: Arguments) -> Law:
        return Law(
            {"self": largest(derivative(numbers(a["self"])))},
            f"{name}: slope at these inputs",
            "these inputs",
        )

    return rule


def _gelu(a: Arguments) -> Law:
    if a.get("approximate", "none") == "tanh":
        return Law({"self": GELU_TANH}, "GELU (tanh): slope at most 1.1290")
    return Law({"self": GELU}, "GELU: slope at most 1.1289")


def _elu(a: Arguments) -> Law:
    # α·scale·exp(x·input_scale) below 0, and scale·x above: so torch computes CELU and SELU too.
    alpha, scale, inner = (abs(float(a[name])) for name in ("alpha", "scale", "input_scale"))
    return Law({"self": max(scale, alpha * scale * inner)}, "ELU: slope at most max(1, |α|)")


def _leaky_relu(a: Arguments) -> Law:
    return Law({"self": max(1.0, abs(float(a["negative_slope"])))}, "leaky ReLU: slope at most max(1, |α|)")


def _prelu(a: Arguments) -> Law:
    x, weight = a["self"], a["weight"]
    slope: float = max(1.0, largest(numbers(weight)))
    factors = {"self": slope}
    if a.depends("weight"):
        factors["weight"] = scaled(numbers(x).clamp_max(0.0), weight.shape, x.shape)
    return Law(factors, "PReLU: slope at most max(1, |α|)", a.scope("weight"))


def _rrelu(a: Arguments) -> Law:
    slope = max(1.0, abs(float(a["lower"])), abs(float(a["upper"])))
    return Law({"self": slope}, "RReLU: slope at most max(1, |α|)")


def _glu(a: Arguments) -> Law:
    left, right = numbers(a["self"]).chunk(2, int(a["dim"]))
    gate = torch.sigmoid(right)
    slope = largest((gate**2 + (left * gate * (1 - gate)) ** 2).sqrt())
    return Law({"self": slope}, "GLU: slope at these inputs", "these inputs")


def _pow(a: Arguments) -> Law:
    base, exponent = numbers(a["self"]), numbers(a["exponent"])
    out = torch.broadcast_shapes(base.shape, exponent.shape)
    if not a.depends("exponent") and bool((exponent == 1).all()):
        return Law({"self": repeats(base.shape, out)}, "power 1")
    factors: dict[str, float] = {}
    if a.depends("self"):
        slope = torch.where(exponent == 0, 0.0, exponent * base ** (exponent - 1))
        factors["self"] = scaled(slope, base.shape, out)
    if a.depends("exponent"):
        factors["exponent"] = scaled(base**exponent * base.log(), exponent.shape, out)
    return Law(factors, "power: slope at these inputs", "these inputs")


def _shapes(a: Arguments, *names: str) -> tuple[torch.Size, ...]:
    return tuple(torch.as_tensor(a[name]).shape for name in names)


def _add(a: Arguments) -> Law:
    left, right = _shapes(a, "self", "other")
    out = torch.broadcast_shapes(left, right)
    alpha = abs(float(a.get("alpha", 1)))
    first, second = (alpha, 1.0) if "rsub" in a.seen.name else (1.0, alpha)
    return Law({"self": first * repeats(left, out), "other": second * repeats(right, out)}, "addition")


def _mul(a: Arguments) -> Law:
    left, right = _shapes(a, "self", "other")
    out = torch.broadcast_shapes(left, right)
    factors = {}
    if a.depends("self"):
        factors["self"] = scaled(a["other"], left, out)
    if a.depends("other"):
        factors["other"] = scaled(a["self"], right, out)
    if len(a.dependents) == 1:
        return Law(factors, "multiplication by constants")
    return Law(factors, "product of two values at these inputs", "these inputs")


def _div(a: Arguments) -> Law:
    left, right = _shapes(a, "self", "other")
    out = torch.broadcast_shapes(left, right)
    divisor = numbers(a["other"])
    if a.get("rounding_mode") is not None:
        return Law({"self": 0.0, "other": 0.0}, "rounded division: slope 0 between its jumps", "these inputs")
    factors = {"self": scaled(1 / divisor, left, out)}
    if not a.depends("other"):
        return Law(factors, "division by constants")
    factors["other"] = scaled(numbers(a["self"]) / divisor**2, right, out)
    return Law(factors, "quotient at these inputs", "these inputs")


def _chosen(reason: str, *names: str) -> Rule:
    """Each entry of the result changes at most as one of the arguments does, or by less than both together."""

    def rule(a: Arguments) -> Law:
        given = [name for name in names if a.get(name) is not None]
        shapes = dict(zip(given, _shapes(a, *given), strict=True))
        masks = [_shapes(a, name)[0] for name in ("condition", "mask") if a.get(name) is not None]
        out = torch.broadcast_shapes(*shapes.values(), *masks)
        return Law({n: repeats(s, out) for n, s in shapes.items()}, reason, combine="rss")

    return rule


def _fill(a: Arguments) -> Law:
    return Law({"self": 0.0, "value": float(a["self"].numel()) ** 0.5}, "filling", combine="rss")


def _lerp(a: Arguments) -> Law:
    start, end, weight = (numbers(a[name]) for name in ("self", "end", "weight"))
    out = torch.broadcast_shapes(start.shape, end.shape, weight.shape)
    factors = {"self": scaled(1 - weight, start.shape, out), "end": scaled(weight, end.shape, out)}
    if a.depends("weight"):
        factors["weight"] = scaled(end - start, weight.shape, out)
    return Law(factors, "interpolation", a.scope("weight"))


def _add_product(a: Arguments) -> Law:
    rest, one, two = (numbers(a[name]) for name in ("self", "tensor1", "tensor2"))
    out = torch.broadcast_shapes(rest.shape, one.shape, two.shape)
    value = float(a.get("value", 1))
    divides = "addcdiv" in a.seen.name
    first, second = (1 / two, -one / two**2) if divides else (two, one)
    factors = {"self": repeats(rest.shape, out)}
    if a.depends("tensor1"):
        factors["tensor1"] = scaled(value * first, one.shape, out)
    if a.depends("tensor2"):
        factors["tensor2"] = scaled(value * second, two.shape, out)
    local = a.depends("tensor2") and (divides or a.depends("tensor1"))
    return Law(factors, "sum with a product", "these inputs" if local else "any input")


def _native_dropout(a: Arguments) -> Law:
    p = float(a["p"]) if a.get("train", True) else 0.0
    return Law({"input": 1 / (1 - p) if p < 1 else 0.0}, "dropout: at most 1/(1 − p)")


def _activate(a: Arguments) -> Law:
    return Law({"x": 1 / (1 - float(a["p"]))}, "activation and dropout: at most 1/(1 − p)")


RULES: dict[str, Rule] = {
    **{f"aten::{name}": _constant(*slope) for name, slope in _SLOPES.items()},
    **{f"aten::{name}": _jump(name, slope) for name, slope in _JUMPS.items()},
    **{f"aten::{name}": _local(name, derivative) for name, derivative in _DERIVATIVES.items()},
    "aten::gelu": _gelu,
    "aten::elu": _elu,
    "aten::leaky_relu": _leaky_relu,
    "aten::_prelu_kernel": _prelu,
    "aten::rrelu_with_noise": _rrelu,
    "aten::glu": _glu,
    "aten::pow": _pow,
    "aten::clamp": _chosen("clamp: slope at most 1", "self", "min", "max"),
    "aten::add": _add,
    "aten::sub": _add,
    "aten::rsub": _add,
    "aten::mul": _mul,
    "aten::div": _div,
    "aten::maximum": _chosen("larger of two", "self", "other"),
    "aten::minimum": _chosen("smaller of two", "self", "other"),
    "aten::fmax": _chosen("larger of two", "self", "other"),
    "aten::fmin": _chosen("smaller of two", "self", "other"),
    "aten::hypot": _chosen("hypotenuse", "self", "other"),
    "aten::logaddexp": _chosen("log of a sum of exponentials", "self", "other"),
    "aten::where": _chosen("choice", "self", "other"),
    "aten::masked_fill": _chosen("masking", "self", "value"),
    "aten::fill": _fill,
    "aten::zero": _constant(0.0, "filling"),
    "aten::lerp": _lerp,
    "aten::addcmul": _add_product,
    "aten::addcdiv": _add_product,
    "aten::native_dropout": _native_dropout,
    "layerlab::activate": _activate,
}
