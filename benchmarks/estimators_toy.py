"""The picture of the variance against mu on the course's toy: `python benchmarks/estimators_toy.py`."""

from __future__ import annotations

from pathlib import Path

import torch
from bench_common.figures import standalone

from layerlab.estimators.curves import against_mu
from layerlab.estimators.space import Space
from layerlab.lab.files import write_atomic
from layerlab.lab.report.charts import line_chart

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "estimators-toy.svg"
SAMPLES = 4
LABELS = {
    "reinforce": "none",
    "mean": "mean, known",
    "optimal": "optimal, known: 0",
    "leave-one-out": "leave-one-out",
}


def picture(samples: int = SAMPLES) -> str:
    """f(x) = x of one bit: the exact variance of an estimate of so many evaluations, by baseline; an SVG."""
    toy = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = against_mu(Space.parse(bits=1), toy, samples, names=list(LABELS))
    curves = [{"label": LABELS[name], "x": found.mu, "mean": found.variance[name]} for name in LABELS]
    drawn = line_chart(
        curves,
        f"variance at {samples} evaluations",
        xlabel="μ, the probability of a 1",
        title="Variance of the gradient of the course's toy, by baseline",
        decimals=3,
        marks=[{"label": "μ = 2/3", "x": 2 / 3}],
    )
    return standalone(drawn.svg)


if __name__ == "__main__":
    write_atomic(FIGURE, picture().encode())
    print(f"wrote {FIGURE}")
