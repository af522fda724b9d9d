"""Both ends of the spectrum of P on one large connected component, each with what is known of its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from layerlab.graph import factor
from layerlab.graph.lanczos import End, Vector, extreme_eigenvalues, measure
from layerlab.graph.products import Product

Watch = Callable[[float, str], None]

# A factorisation is tried up to these (entries of the factor, multiplications), estimated beforehand.
_ENTRIES, _MULTIPLICATIONS = 5e7, 2e10
# Lanczos steps where a factorisation may follow; and the multiplications it may take where none can.
_STEPS, _WORK = 300, 6e9
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Found:
    """One end of a component's spectrum.

    Attributes:
        value: xᵀPx.
        residual: ‖Px − value·x‖.
        vector: x, on the component, of norm 1.
        converged: residual at most the tolerance, and nothing speaks against it being the end.
        margin: no eigenvalue lies farther out than this from ``value``…
        proven: …for certain, or with the probability of `layerlab.lab.krylov.reach`.
    """

    value: float
    residual: float
    vector: Vector
    converged: bool
    margin: float
    proven: bool


def component_ends(
    block: sp.csr_array,
    trivial: Vector,
    colours: NDArray[np.int8] | None,
    *,
    tolerance: float,
    generator: np.random.Generator,
    watch: Watch,
) -> dict[End, Found]:
    """The largest eigenvalue of P without the eigenvalue 1 of ``trivial``, and the smallest.

    Lanczos first. Where a factorisation is cheap, the result is proven by counting eigenvalues beyond it
    (`factor.inertia`), and an end that Lanczos did not reach, or not proven, is sought anew by Lanczos on
    (μI ∓ P)⁻¹ with μ just outside.

    Args:
        block: P on the component: (n, n), symmetric, no eigenvalue beyond ±1, n at least 2.
        trivial: D^(1/2) 1, of norm 1.
        colours: the 2-colouring of a bipartite component, whose smallest eigenvalue is −1; else None.
        tolerance: of the residual.
        generator: draws the starts.
        watch: told the progress.
    """

    def project(x: Vector) -> Vector:
        x -= (trivial @ x) * trivial
        return x

    def report(steps: int, residual: float) -> None:
        decades = math.log(max(residual, tolerance)) / math.log(tolerance)
        watch(min(1.0, max(decades, 0.0)), f"Lanczos step {steps}, residual {residual:.1e}")

    found: dict[End, Found] = {}
    ends: list[End] = ["highest"]
    if colours is None:
        ends.append("lowest")
    else:
        value, residual, vector = measure(block, trivial * (1.0 - 2.0 * colours))
        found["lowest"] = Found(value, residual, vector, residual <= tolerance, 0.0, True)
    # A factor has at least the entries of the matrix below its diagonal; the estimate itself takes time and memory.
    affordable = (block.nnz - trivial.size) // 2 <= _ENTRIES
    if affordable:
        entries, multiplications = factor.cost(block)
        affordable = entries <= _ENTRIES and multiplications <= _MULTIPLICATIONS
    limit = int(min(5000, max(_STEPS, _WORK / (block.nnz + 10 * trivial.size))))
    ritz = extreme_eigenvalues(
        Product(block),
        project,
        trivial.size,
        ends,
        tolerance=tolerance / 4,
        max_steps=_STEPS if affordable else limit,
        generator=generator,
        watch=report,
    )
    for end, pair in ritz.items():
        margin = min(2.0 * pair.reach, 1.0 - _sign(end) * pair.value)
        found[end] = Found(
            pair.value, pair.residual, pair.vector, pair.residual <= tolerance, max(margin, 0.0), False
        )
        if affordable:
            found[end] = _improved(found[end], end, block, project, tolerance, generator, report)
    return found


def _sign(end: End) -> float:
    return 1.0 if end == "highest" else -1.0


def _improved(
    found: Found,
    end: End,
    block: sp.csr_array,
    project: Callable[[Vector], Vector],
    tolerance: float,
    generator: np.random.Generator,
    report: Callable[[int, float], None],
) -> Found:
    """``found`` proven, or else found anew closer to the end."""
    found = _proven(found, end, block)
    for attempt in range(_ROUNDS):
        if found.converged and found.proven:
            break
        outside = min(1.0, _sign(end) * found.value + found.margin) + 1e-7 * 0.01**attempt
        try:
            factors = factor.factorise(_sign(end) * block, outside)
        except RuntimeError:  # singular to working precision: `outside` is an eigenvalue
            break
        ritz = extreme_eigenvalues(
            factors.solve,
            project,
            block.shape[0],
            ["highest"],
            tolerance=tolerance / 8,
            max_steps=_STEPS,
            generator=generator,
            watch=report,
        )["highest"]
        value, residual, vector = measure(block, ritz.vector)
        better = Found(value, residual, vector, residual <= tolerance, ritz.reach / abs(ritz.value), False)
        if residual >= found.residual and found.converged:
            break
        found = _proven(better, end, block)
    return found


def _proven(found: Found, end: End, block: sp.csr_array) -> Found:
    """``found`` with a margin that is certain, if counting the eigenvalues beyond it gives one.

    Beyond the largest lies only the eigenvalue 1 that was taken out; beyond the smallest none.
    """
    sign = _sign(end)
    allowed = 1 if end == "highest" else 0
    room = 1.0 - sign * found.value
    for share in (1e-3, 1e-2, 1e-1):
        distance = max(share * room, 10.0 * found.residual)
        if distance >= room:
            break
        try:
            counted = factor.inertia(factor.factorise(sign * block, sign * found.value + distance))
        except RuntimeError:  # singular to working precision: try another distance
            continue
        if counted is None:
            continue
        if counted.above <= allowed and distance + counted.error < room:
            return replace(found, margin=distance + counted.error, proven=True)
        if counted.above > allowed and counted.error < distance - found.residual:
            # There is an eigenvalue farther out.
            return replace(found, converged=False, margin=room)
    return found
