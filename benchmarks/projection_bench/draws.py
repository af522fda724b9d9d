"""How often random maps fail, against the probability that they state, and what the fast one costs.

Every map is drawn as often as was agreed, no less and no more. The points are orthonormal and turned, with 0 among
them: all distances are 1 or √2, and no coordinate is special. Failure: some pair is off by more than ε.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from bench_common.command import say
from scipy.stats import binomtest

from layerlab.projection import tails
from layerlab.projection.maps import apply, draw

KINDS = (("gaussian", 1 / 3), ("rademacher", 1 / 3), ("sparse", 1 / 3), ("sparse", None), ("hadamard", 1 / 3))
DIM = 1_024


def rates(draws: int, count: int, width: int, eps: float) -> dict[str, Any]:
    """A row for each map and each statement.

    Args:
        draws: of each map, fixed in advance.
        count: of points.
        width: their dimension.
        eps: ε.
    """
    generator = np.random.default_rng(0)
    points = np.zeros((count, width))
    points[1:] = np.linalg.qr(generator.standard_normal((width, count - 1)))[0].T
    first, second = np.triu_indices(count, 1)
    before = ((points[first] - points[second]) ** 2).sum(axis=1)
    rows = []
    for kind, given in KINDS:
        density = width**-0.5 if given is None else given
        for failure in (None, 0.01):
            known = tails.dimension(count, eps, failure, kind, density)
            failures = 0
            for _ in range(draws):
                images = apply(draw(kind, width, known.dim, generator, density=density), points)
                squares = (images**2).sum(axis=1)
                after = (squares[:, None] + squares - 2 * (images @ images.T))[first, second]
                failures += bool((np.abs(after / before - 1) > eps).any())
            name = f"{kind}, density {density:.3g}" if kind == "sparse" else kind
            rows.append(
                {
                    "map": name,
                    "dim": known.dim,
                    "stated": known.failure,
                    "proved": known.proved,
                    "failures": failures,
                    "p": binomtest(failures, draws, known.failure, alternative="greater").pvalue,
                }
            )
            say(f"    {name}, {known.dim} dimensions: {failures} of {draws}, stated {known.failure:.3g}")
    return {
        "draws": draws,
        "count": count,
        "width": width,
        "eps": eps,
        "scikit_learn": tails.scikit_learn_dimension(count, eps),
        "rows": rows,
    }


def costs(widths: tuple[int, ...], count: int = 256, repeats: int = 15) -> list[dict[str, Any]]:
    """Seconds of a projection to 1,024 dimensions, float32, the least of repeated runs."""
    rows = []
    for width in widths:
        x = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
        row: dict[str, Any] = {"width": width, "count": count}
        for kind in ("gaussian", "hadamard"):
            drawn = draw(kind, width, DIM, np.random.default_rng(0), dtype=np.float32)
            apply(drawn, x)
            times = []
            for _ in range(repeats):
                started = time.perf_counter()
                apply(drawn, x)
                times.append(time.perf_counter() - started)
            parts = (drawn.matrix, drawn.signs, drawn.rows)
            row[kind] = {
                "seconds": min(times),
                "bytes": sum(part.nbytes for part in parts if part is not None),
            }
        rows.append(row)
    return rows
