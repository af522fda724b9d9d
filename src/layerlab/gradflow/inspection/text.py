"""The numbers of a profile as people read them: what its table in the terminal and its page share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

Record = Mapping[str, Any]

_TEN = math.log(10.0)

# Functions that are flat at both ends saturate; those that are flat at one end die.
_TWO_SIDED = frozenset({"sigmoid", "tanh", "hardtanh", "hardsigmoid", "relu6", "softmax", "log_softmax"})


def largest(layer: Record) -> tuple[float | None, float]:
    """σ_max over the samples, and its error; None where it is not finite.

    >>> largest({"sigma_max": [2.0, 4.0], "sigma_max_error": [0.5, 0.01]})
    (4.0, 0.04)
    """
    known = [
        (s, e or 0.0)
        for s, e in zip(layer["sigma_max"], layer["sigma_max_error"], strict=True)
        if s is not None
    ]
    if not known:
        return None, 0.0
    value, error = max(known)
    return value, value * error


def smallest(layer: Record) -> float | None:
    """σ_min over the samples."""
    return (
        None
        if layer["sigma_min"] is None
        else min((s for s in layer["sigma_min"] if s is not None), default=None)
    )


def product(layer: Record) -> float | None:
    """log₁₀ of the product's σ_max over the samples; None where the product is 0."""
    return tens(max((v for v in layer["log_product_max"] if v is not None), default=None))


def gradients(record: Record) -> list[float | None]:
    """log₁₀ of ‖∂/∂x‖ in root mean square over samples, relative to the output's, at the input of each layer.

    Averages over places, which shrink gradients and are meant to, are taken out, as in the verdict.

    >>> layer = {"log_gradient": [-2 * _TEN, -2 * _TEN], "designed": 0.0}
    >>> gradients({"layers": [layer], "log_output_gradient": [0.0, 0.0]})
    [-2.0]
    """
    end = _rms(record["log_output_gradient"])
    found = [_rms(layer["log_gradient"]) for layer in record["layers"]]
    return [
        None if value is None or end is None else (value - end - behind) / _TEN
        for value, behind in zip(found, designed(record), strict=True)
    ]


def changes(record: Record) -> list[float | None]:
    """log₁₀ of the factor by which each layer changes the gradient, on its way back."""
    return [None if a is None or b is None else a - b for a, b in pairwise([*gradients(record), 0.0])]


def designed(record: Record) -> list[float]:
    """log of the factors of all averages from each layer on to the output."""
    return list(accumulate(layer["designed"] for layer in reversed(record["layers"])))[::-1]


def tens(log: float | None) -> float | None:
    """A natural logarithm as a decimal one."""
    return None if log is None else log / _TEN


def flat(layer: Record) -> tuple[float, str] | None:
    """The largest share of units or entries without a slope, and whether they are saturated or dead.

    >>> flat({"activations": [{"kind": "relu", "dead": 0.25, "saturated": 0.6}]})
    (0.25, 'dead')
    """
    found = [
        (a["saturated"], "sat.") if a["kind"] in _TWO_SIDED else (a["dead"], "dead")
        for a in layer["activations"]
        if a["kind"] in _TWO_SIDED or a["dead"] is not None
    ]
    return max(found, default=None)


def weight_gradient(layer: Record) -> float | None:
    """log₁₀ of the largest ‖∂/∂W‖ / ‖W‖ among the layer's weights."""
    known = [
        entry["log_gradient"] - entry["log_norm"]
        for entry in layer["weights"].values()
        if entry["log_gradient"] is not None and entry["log_norm"] is not None
    ]
    return tens(max(known, default=None))


def last(logs: Sequence[float | None]) -> float | None:
    """A curve's last logarithm as a decimal one."""
    return tens(logs[-1])


def horizon(layer: Record) -> str:
    """The lag at which a recurrent layer loses the gradient, or has it explode; in brackets where extrapolated.

    >>> horizon({"vanishing": {"first": 40, "extrapolated": True}, "exploding": {"first": None, "extrapolated": False}})
    '(40)'
    """
    found = [
        f"({at['first']})" if at["extrapolated"] else str(at["first"])
        for at in (layer["vanishing"], layer["exploding"])
        if at["first"] is not None
    ]
    return " and ".join(found) or "none"


def after(remedy: Record) -> str:
    """log₁₀ of the gradient after a remedy; a dash where it could not be tried."""
    return "–" if remedy["verdict_after"] is None else decimal(tens(remedy["log_factor_after"]))


def number(value: float | None, digits: int = 4) -> str:
    """Significant digits, a true minus, or a dash.

    >>> number(0.25), number(-1.5e-9), number(None)
    ('0.25', '−1.5e−09', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}".replace("-", "−")


def decimal(value: float | None) -> str:
    """A logarithm with two decimals; −∞ for the logarithm of 0.

    >>> decimal(-3.14159), decimal(None)
    ('−3.14', '−∞')
    """
    # Adding 0 makes 0.00 of −0.00.
    return "−∞" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def sigma(layer: Record) -> str:
    """σ_max, with its error where it is not exact.

    >>> sigma({"sigma_max": [2.0], "sigma_max_error": [0.01], "method": "lanczos"})
    '2 ±0.02'
    """
    value, error = largest(layer)
    return number(value) + (f" ±{error:.1g}" if layer["method"] == "lanczos" and value is not None else "")


def sigma_min(layer: Record) -> str:
    """σ_min, with ≤ where it is a bound."""
    value = smallest(layer)
    return number(value, 3) if value is None or layer["sigma_min_exact"] else f"≤ {number(value, 3)}"


def bound(layer: Record) -> str:
    """The bound; "here" where it holds at these inputs only."""
    return number(layer["bound"]) + (" here" if layer["bound_scope"] == "these inputs" else "")


def slack(layer: Record) -> str:
    """Bound divided by σ_max."""
    return number(layer["slack"], 3)


def flatness(layer: Record) -> str:
    """``12 % sat.``, ``3 % dead``, or nothing for a layer without an activation."""
    found = flat(layer)
    return "" if found is None else f"{100 * found[0]:.0f} % {found[1]}"


def shortened(text: str, width: int) -> str:
    """``text`` with its middle left out.

    >>> shortened("encoder.layers.11.attention", 16)
    'encoder…ttention'
    """
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def short_name(name: str, width: int) -> str:
    """A dotted name in ``width`` characters: numbers and ends stay longest, for they tell layers apart.

    >>> short_name("encoder.layer.11.attention.output.LayerNorm", 28)
    'encoder.layer.11…LayerNorm'
    """
    parts: list[str | None] = list(name.split("."))
    words = [i for i in range(len(parts) - 1) if not str(parts[i]).isdigit()]
    # From the right, the first word last.
    for position in words[::-1]:
        if len(_dotted(parts)) <= width:
            break
        parts[position] = None
    return shortened(_dotted(parts), width)


def _dotted(parts: Sequence[str | None]) -> str:
    """The parts with dots between, and one … in place of those left out."""
    text = ".".join("…" if part is None else part for part in parts)
    while "….…" in text:
        text = text.replace("….…", "…")
    return text.replace(".….", "…").replace("….", "…")


def of_interest(record: Record, most: int) -> list[int]:
    """Positions of layers to show where not all can be: the first, the last, the ones that change gradients most, and
    the one to blame."""
    layers = record["layers"]
    if len(layers) <= most:
        return list(range(len(layers)))
    third = most // 3
    chosen = {*range(third), *range(len(layers) - third, len(layers))}
    blamed = record["verdict"]["layer"]
    chosen |= {i for i, layer in enumerate(layers) if layer["name"] == blamed}
    change = [math.inf if value is None else abs(value) for value in changes(record)]
    for position in sorted(range(len(layers)), key=lambda i: -change[i]):
        if len(chosen) >= most:
            break
        chosen.add(position)
    return sorted(chosen)


def _rms(logs: Sequence[float | None]) -> float | None:
    """log of the root mean square of the numbers with these logarithms."""
    known = [value for value in logs if value is not None]
    if not known:
        return None
    top = max(known)
    return top + math.log(sum(math.exp(2 * (value - top)) for value in known) / len(logs)) / 2
