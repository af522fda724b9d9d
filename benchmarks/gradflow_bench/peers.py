"""σ_max of single layers: by Lanczos' method, by forming the Jacobian, and by power iteration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from bench_common import timing
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradflow_bench.models import Size, pieces
from layerlab.gradflow.jacobians import jacobian
from layerlab.gradflow.linear_maps import DenseMap
from layerlab.gradflow.profiling import BUDGET, TOLERANCE
from layerlab.gradflow.singular_values import extreme_singular_values

# Rows of a Jacobian that are formed at once: the fastest of 16, 64, 256 and 1024 at width 256.
CHUNK = 64
# Up to this many rows the peer forms all; beyond it two chunks are timed and the rest is multiplied.
WHOLE_UP_TO = 2048
_MOST = 2000  # steps of the power iteration


def ours(module: nn.Module, x: Tensor, tolerance: float, budget: int = BUDGET) -> Any:
    """What the profile does for a layer: record it, test its products, search σ_max."""
    operator = jacobian(module, x, batch_dim=None)
    return extreme_singular_values(
        operator, smallest=False, method="lanczos", tolerance=tolerance, budget=budget
    )


def formed(module: nn.Module, x: Tensor, rows: int) -> Tensor:
    """The first rows of the Jacobian, as torch.func.jacrev with a chunk size forms them: vmap of its vjp."""
    with sdpa_kernel(SDPBackend.MATH):
        y, pull = torch.func.vjp(module, x)
        parts = []
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            unit = torch.zeros(count, y.numel())
            unit[torch.arange(count), first + torch.arange(count)] = 1.0
            (found,) = torch.func.vmap(pull)(unit.reshape(count, *y.shape))
            parts.append(found.reshape(count, -1))
    return torch.cat(parts)


def power(module: nn.Module, x: Tensor, tolerance: float, most: int = _MOST) -> dict[str, float]:
    """Power iteration on JᵀJ with torch.func.jvp and vjp, until ‖Jᵀu − σv‖ ≤ tolerance · σ."""
    generator, products = torch.Generator().manual_seed(0), 0
    with sdpa_kernel(SDPBackend.MATH):
        _, pull = torch.func.vjp(module, x)
        v = torch.randn(x.shape, generator=generator)
        v = v / v.norm()
        while True:
            image = torch.func.jvp(module, (x,), (v,))[1]
            sigma = float(image.norm())
            (back,) = pull(image / sigma)
            residual = float((back - sigma * v).norm()) / sigma
            products += 2
            if residual <= tolerance or products >= 2 * most:
                break
            v = back / back.norm()
    return {"value": sigma, "residual": residual, "products": products}


def race(size: Size, rounds: int) -> dict[str, Any]:
    """Each step of one encoder layer, both sides in turn."""
    modules, x = pieces(size)
    return {name: _race(module, x, rounds) for name, module in modules.items()}


def _race(module: nn.Module, x: Tensor, rounds: int) -> dict[str, Any]:
    total = module(x).numel()
    rows = total if total <= WHOLE_UP_TO else 2 * CHUNK
    found = ours(module, x, TOLERANCE)
    value = float(found.largest.value[0])
    exact = None
    if rows == total:
        dense = DenseMap(formed(module, x, rows))
        exact = float(extreme_singular_values(dense, smallest=False, budget=400).largest.value[0])
    seconds = _in_turn(
        {"ours": lambda: ours(module, x, TOLERANCE), "formed": lambda: formed(module, x, rows)}, rounds
    )
    scale = total / rows
    return {
        "entries": total,
        "rows_formed": rows,
        "extrapolated": rows < total,
        "seconds": {"ours": seconds["ours"], "formed": [scale * s for s in seconds["formed"]]},
        "times_cheaper": timing.ratio([scale * s for s in seconds["formed"]], seconds["ours"]),
        "products": found.products,
        "value": value,
        "residual": float(found.largest.residual[0]) / value,
        "dense_value": exact,
    }


def vectorized(size: Size, rounds: int) -> dict[str, Any]:
    """torch.autograd.functional.jacobian(vectorize=True), which takes all rows at once, where that fits."""
    modules, x = pieces(size)
    module = modules["feed-forward"]
    form = torch.autograd.functional.jacobian
    value = float(ours(module, x, 1e-4, 400).largest.value[0])
    dense = form(module, x, vectorize=True).reshape(x.numel(), -1)
    exact = float(extreme_singular_values(DenseMap(dense), smallest=False, budget=400).largest.value[0])
    seconds = _in_turn(
        {
            "ours": lambda: ours(module, x, TOLERANCE),
            "vectorized": lambda: form(module, x, vectorize=True),
            "chunks": lambda: formed(module, x, x.numel()),
        },
        rounds,
    )
    return {
        "entries": x.numel(),
        "seconds": seconds,
        "times_cheaper": timing.ratio(seconds["vectorized"], seconds["ours"]),
        "chunks_to_vectorized": timing.ratio(seconds["vectorized"], seconds["chunks"]),
        "value": value,
        "dense_value": exact,
    }


def race_power(size: Size, tolerance: float, rounds: int) -> dict[str, Any]:
    """Against power iteration at the same residual."""
    modules, x = pieces(size)
    result = {}
    for name, module in modules.items():
        found, other = ours(module, x, tolerance, 2 * _MOST), power(module, x, tolerance)
        seconds = _in_turn(
            {
                "ours": lambda module=module: ours(module, x, tolerance, 2 * _MOST),
                "power": lambda module=module: power(module, x, tolerance),
            },
            rounds,
        )
        value = float(found.largest.value[0])
        result[name] = {
            "entries": x.numel(),
            "tolerance": tolerance,
            "seconds": seconds,
            "times_cheaper": timing.ratio(seconds["power"], seconds["ours"]),
            "products": {"ours": found.products, "power": other["products"]},
            "values": {"ours": value, "power": other["value"]},
            "residuals": {"ours": float(found.largest.residual[0]) / value, "power": other["residual"]},
        }
    return result


def _in_turn(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for number in range(rounds):
        # A B B A: whichever runs second has what the other left in the caches as often as not.
        for name in list(steps) if number % 2 == 0 else list(steps)[::-1]:
            started = time.perf_counter()
            steps[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds
