"""How often random maps fail, against the probability they state, and what the fast one costs.

    PYTHONPATH=src python benchmarks/projection_bench/draws.py [--draws 1000] [--points 100] [--width 512] [--eps 0.4]

Every map is drawn as often as was agreed, no less and no more. The points are orthonormal and turned, with 0 among
them: all distances are 1 or √2, and no coordinate is special. Failure: some pair off by more than ε.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.stats import binomtest

from layerlab.projection import tails
from layerlab.projection.maps import apply, draw


def rates(draws: int, count: int, width: int, eps: float) -> None:
    """A line for each map and statement."""
    generator = np.random.default_rng(0)
    points = np.zeros((count, width))
    points[1:] = np.linalg.qr(generator.standard_normal((width, count - 1)))[0].T
    first, second = np.triu_indices(count, 1)
    before = ((points[first] - points[second]) ** 2).sum(axis=1)
    print(f"{count} points of R^{width}, eps {eps}, {draws} draws each; scikit-learn's dimension: ", end="")
    print(tails.scikit_learn_dimension(count, eps))
    print(
        "| map | dimension | stated | proved | failures | rate | p of a larger rate |\n|---|---|---|---|---|---|---|"
    )
    cases = [
        (kind, density, failure)
        for kind, density in (
            ("gaussian", 1 / 3),
            ("rademacher", 1 / 3),
            ("sparse", 1 / 3),
            ("sparse", width**-0.5),
            ("hadamard", 1 / 3),
        )
        for failure in (None, 0.01)
    ]
    for kind, density, failure in cases:
        known = tails.dimension(count, eps, failure, kind, density)
        failures = 0
        for _ in range(draws):
            images = apply(draw(kind, width, known.dim, generator, density=density), points)
            squares = (images**2).sum(axis=1)
            after = (squares[:, None] + squares - 2 * (images @ images.T))[first, second]
            failures += bool((np.abs(after / before - 1) > eps).any())
        p = binomtest(failures, draws, known.failure, alternative="greater").pvalue
        name = f"{kind}, density {density:.3g}" if kind == "sparse" else kind
        print(
            f"| {name} | {known.dim} | {known.failure:.4f} | {'yes' if known.proved else 'no'} | {failures} | "
            f"{failures / draws:.3f} | {p:.2g} |",
            flush=True,
        )


def costs(rows: int = 256) -> None:
    """Time of a projection to 1,024 dimensions, float32, the least of repeated runs."""
    print(
        "| d | Gaussian, ms | fast, ms | times | Gaussian map, MB | fast map, MB |\n|---|---|---|---|---|---|"
    )
    for width in (2_048, 4_096, 16_384, 65_536):
        x = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
        least, sizes = [], []
        for kind in ("gaussian", "hadamard"):
            drawn = draw(kind, width, 1_024, np.random.default_rng(0), dtype=np.float32)
            apply(drawn, x)
            times = []
            for _ in range(15):
                started = time.perf_counter()
                apply(drawn, x)
                times.append(time.perf_counter() - started)
            least.append(1e3 * min(times))
            parts = (drawn.matrix, drawn.signs, drawn.rows)
            sizes.append(sum(part.nbytes for part in parts if part is not None) / 1e6)
        print(
            f"| {width:,} | {least[0]:.1f} | {least[1]:.1f} | {least[0] / least[1]:.1f} | {sizes[0]:.1f} | "
            f"{sizes[1]:.3f} |",
            flush=True,
        )


def main() -> None:
    """Both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--eps", type=float, default=0.4)
    given = parser.parse_args()
    costs()
    rates(given.draws, given.points, given.width, given.eps)


if __name__ == "__main__":
    main()
