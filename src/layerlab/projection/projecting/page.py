"""A projection on a page: verdict, distortions against the exact density, dimensions by formula. Draws the record."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts
from layerlab.lab.report.page import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
)
from layerlab.lab.report.race import environment_section
from layerlab.projection.tails import density_of_ratio

_MAPS = {
    "gaussian": "Gaussian",
    "rademacher": "random signs",
    "sparse": "sparse random signs",
    "hadamard": "subsampled Hadamard",
}


def projection_page(run: RunFolder) -> Page:
    """The page of one projection, drawn from its record."""
    record: dict[str, Any] = run.meta["results"]
    found = record["distortion"]
    verdict = record["verdict"]
    measured = f"{found['pairs']:,} pairs" if found["exhaustive"] else f"{found['pairs']:,} sampled pairs"
    figures = [
        KeyFigure(f"{record['dim']:,}", "dimensions", f"of {record['dim_in']:,}"),
        KeyFigure(f"{found['largest']:.3f}", "largest distortion", f"{measured}; allowed {record['eps']:g}"),
        KeyFigure(probability(record), "probability of a failure", stated(record)),
        KeyFigure(
            f"{record['scikit_learn_dim']:,}",
            "dimensions by scikit-learn's formula",
            "which states no probability",
        ),
    ]
    sections = [
        Section("Distortion", "distortion", [_histogram(record)]),
        Section("Dimensions by formula", "formulas", [formula_table(record)]),
    ]
    if record["notes"]:
        sections.append(Section("Notes", "notes", [Bullets(record["notes"])]))
    blocks: list[Block] = [Callout("note", f"{verdict[:1].upper()}{verdict[1:]}."), KeyFigures(figures)]
    return Page(
        f"{record['points']:,} points projected to {record['dim']:,} dimensions",
        f"`{record['data']}`, {record['points']:,} x {record['dim_in']:,}; {_MAPS[record['kind']]} map, "
        f"seed {record['seed']}, {record['draws']} drawn.",
        blocks,
        [*sections, environment_section(run.meta)],
    )


def probability(record: dict[str, Any]) -> str:
    """The stated failure probability, in few digits."""
    value = record["stated_failure"]
    return "not known" if value >= 1 else f"{value:.3g}"


def stated(record: dict[str, Any]) -> str:
    """What the stated probability is worth."""
    if record["stated_failure"] >= 1:
        return "no bound below 1"
    return "proved" if record["proved"] else "as if Gaussian, not proved"


def formula_table(record: dict[str, Any]) -> Table:
    """The dimensions by all formulas."""
    rows: list[list[str | Cell]] = [
        [
            entry["name"],
            Cell(f"{entry['dim']:,}", entry["dim"]),
            Cell("none" if entry["promise"] is None else f"{entry['promise']:.4g}", entry["promise"]),
            Cell("1" if entry["failure"] >= 1 else f"{entry['failure']:.2g}", entry["failure"]),
        ]
        for entry in record["formulas"]
    ]
    return Table(
        f"What {record['points']:,} points need for eps {record['eps']:g}",
        [Column("formula"), *(Column(name, "right") for name in ("dimensions", "promised", "exact"))],
        rows,
        [
            "Promised: the probability that some pair is off, as the formula's proof leaves it. Exact: the union bound "
            "with exact χ² tails on that probability for a Gaussian map of this dimension (1: nothing is left)."
        ],
    )


def _histogram(record: dict[str, Any]) -> Figure:
    found, dim, eps = record["distortion"], record["dim"], record["eps"]
    edges, counts = found["edges"], found["counts"]
    width = edges[1] - edges[0]
    total = max(1, found["pairs"] - found["duplicates"])
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    return charts.line_chart(
        [
            {"label": "measured", "x": middles, "mean": [count / total / width for count in counts]},
            {
                "label": f"exact density of χ²/n, n = {dim:,}",
                "x": middles,
                "mean": [density_of_ratio(dim, middle) for middle in middles],
            },
        ],
        "density",
        xlabel="squared distance, after over before",
        title="Distortion of the squared distances",
        caption="The ratios of all measured pairs under the one map that was kept, against the density that every "
        "single pair has over Gaussian maps. Pairs of one map are not independent, so the curves need not agree.",
        decimals=2,
        marks=[{"label": "1 − ε", "x": 1 - eps}, {"label": "1 + ε", "x": 1 + eps}],
    )
