"""Correctness first: the profile's singular values against dense float64 Jacobians on twelve small architectures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from bench_common.command import GateError

from gradflow_bench import models, reference
from layerlab.gradflow.jacobians import jacobian
from layerlab.gradflow.profiling import profile
from layerlab.gradflow.singular_values import singular_values

ALLOWED = 1e-6
# Below this share of the largest, a singular value is rounding in either matrix.
_ROUNDING = 1e-9
# σ_max to far more digits than are compared; σ_min of larger layers is compared by `singular_values`.
_TOLERANCE, _BUDGET = 1e-9, 2048


def check(name: str) -> dict[str, Any]:
    """The largest relative differences for one architecture.

    Raises:
        GateError: one of them exceeds `ALLOWED`.
    """
    model, inputs = models.small().subject(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop because")
        return _check(name, model, inputs)


def _check(name: str, model: torch.nn.Module, inputs: Any) -> dict[str, Any]:
    found = profile(model, inputs, tolerance=_TOLERANCE, budget=_BUDGET)
    worst = {"sigma_max": 0.0, "sigma_min": 0.0, "log_product_max": 0.0, "log_product_min": 0.0}
    compared = dict.fromkeys(worst, 0)

    def note(what: str, ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray) -> None:
        # What is rounding in the dense matrix must be at most that in ours.
        zero = theirs <= _ROUNDING * scale
        off = np.where(
            zero,
            np.where(ours <= 2 * _ROUNDING * scale, 0.0, 1.0),
            np.abs(ours / np.where(zero, 1.0, theirs) - 1),
        )
        compared[what] += int((~zero).sum())
        worst[what] = max(worst[what], float(off.max()))
        if not off.max() <= ALLOWED:
            raise GateError(f"{name}: {what} differs by {off.max():.1e} relative at {layer.name}")

    for layer in found.layers:
        step = reference.matrix(model, inputs, layer.start, layer.stop, found.samples)
        values = torch.linalg.svdvals(step).numpy()
        top = values[:, 0]
        note("sigma_max", layer.jacobian.largest, top, top)
        smallest = layer.jacobian.smallest
        if not layer.jacobian.smallest_exact:
            operator = jacobian(
                model,
                inputs,
                start=layer.start,
                stop=layer.stop,
                batch_dim="auto" if found.separate else None,
            )
            smallest = singular_values(operator)[:, -1]
        assert smallest is not None
        note("sigma_min", smallest, values[:, -1], top)
        whole = torch.linalg.svdvals(
            reference.matrix(model, inputs, "input", layer.stop, found.samples)
        ).numpy()
        note("log_product_max", np.exp(layer.product.largest), whole[:, 0], whole[:, 0])
        if layer.product.smallest is not None and layer.product.smallest_exact:
            note("log_product_min", np.exp(layer.product.smallest), whole[:, -1], whole[:, 0])
    return {"layers": len(found.layers), "samples": found.samples, "largest": worst, "compared": compared}


def check_all(names: list[str]) -> dict[str, Any]:
    rows = {name: check(name) for name in names}
    return {"rows": rows, "largest": max(max(row["largest"].values()) for row in rows.values())}
