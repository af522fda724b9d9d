"""An inspection on a page: findings, spectrum, smoothing, depth, components. Draws the record, computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts
from layerlab.lab.report.page import (
    Block,
    Bullets,
    Cell,
    Column,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)
from layerlab.lab.report.race import environment_section

Record = Mapping[str, Any]

EIGENVALUES = {
    "lambda_2": ("λ₂", "second smallest of the normalised Laplacian; 0 when the graph is disconnected"),
    "smallest_nonzero": ("λ₂, slowest component", "smallest λ₂ of a component on its own"),
    "lambda_max": ("λmax", "largest of the normalised Laplacian; 2 when a component is bipartite"),
    "second": ("μ, without self-loops", "largest magnitude of P's other eigenvalues, with its sign"),
    "second_self_loops": ("μ, with self-loops", "the same with self-loops, as GCN and SGC propagate"),
}


def number(value: float | None) -> str:
    """Six digits, or a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.6g}".replace("-", "−")


def residual(found: Record | None) -> str:
    """``± 1e-12``, or a word where it is known exactly or has not converged."""
    if found is None:
        return "–"
    shown = f"± {found['residual']:.0e}" if found["residual"] else "exact"
    return shown if found["converged"] else f"{shown}, not converged"


def inspection_page(run: RunFolder) -> Page:
    """The page of one inspection, drawn from its record."""
    record: Record = run.meta["results"]
    graph = record["graph"]
    kind = f"{'Directed' if graph['directed'] else 'Undirected'}{', weighted' if graph['weighted'] else ''}"
    lead: list[Block] = [KeyFigures(_key_figures(record))]
    if record["findings"]:
        lead.append(Bullets([f"{text[:1].upper()}{text[1:]}." for text in record["findings"]]))
    sections = [
        Section("Depth", "depth", _depth(record)),
        Section("Smoothing", "smoothing", _smoothing(record)),
        Section("Spectrum", "spectrum", _spectrum(record)),
        Section("Labels", "labels", _labels(record)),
        Section("Components and degrees", "components", _components(record)),
    ]
    if record["notes"]:
        sections.append(Section("Notes", "notes", [Bullets(record["notes"])]))
    sections.append(environment_section(run.meta))
    return Page(
        f"The graph of {record['data']}",
        f"{kind}: {graph['nodes']:,} nodes, {graph['edges']:,} edges. What its spectrum says before training.",
        lead,
        [section for section in sections if section.blocks],
    )


def _key_figures(record: Record) -> list[KeyFigure]:
    found = [KeyFigure(f"{record['spectrum']['components']['count']:,}", "components")]
    if record["spectrum"]["gap_self_loops"] is not None:
        found.append(KeyFigure(f"{record['spectrum']['gap_self_loops']:.2g}", "spectral gap with self-loops"))
    if record["features"] is not None:
        layers = record["features"]["hundredth_after"]["energy"]
        found.append(
            KeyFigure(
                "never" if layers is None else f"{layers:.1f}", "layers until 1 % of the energy is left"
            )
        )
    if record["homophily"] is not None and record["homophily"]["edge"] is not None:
        found.append(KeyFigure(f"{100 * record['homophily']['edge']:.0f} %", "edges within a class"))
    if record["prediction"] is not None:
        found.append(KeyFigure(f"K = {record['prediction']['best']}", "predicted best depth of an SGC"))
    if record["training"] is not None:
        found.append(KeyFigure(f"K = {record['training']['best']}", "best depth when trained"))
    return found


def _depth(record: Record) -> list[Block]:
    blocks: list[Block] = []
    prediction, training = record["prediction"], record["training"]
    if prediction is None:
        return blocks
    marks = [{"label": "predicted depth", "x": prediction["best"]}]
    if training is not None:
        accuracy = 100 * np.array(training["validation"])
        mean, count = accuracy.mean(axis=0), len(accuracy)
        curve: dict[str, Any] = {"label": "validation", "x": training["depths"], "mean": mean.tolist()}
        if count > 1:
            error = accuracy.std(axis=0, ddof=1) / np.sqrt(count)
            curve |= {"low": (mean - error).tolist(), "high": (mean + error).tolist()}
        test = 100 * np.array(training["test"], dtype=float)
        curves = [curve]
        if np.isfinite(test).all():
            curves.append({"label": "test", "x": training["depths"], "mean": test.mean(axis=0).tolist()})
        near = ", ".join(map(str, training["near_best"]))
        blocks.append(
            charts.line_chart(
                curves,
                "accuracy, per cent",
                xlabel="depth K",
                title="Accuracy against depth",
                caption=f"SGC trained at every depth on {count} splits; the band is one standard error. Within one "
                f"standard error of the best: K = {near}.",
                marks=marks,
            )
        )
    scores = [
        {"label": label, "x": prediction["depths"], "mean": [100 * v for v in prediction[name]]}
        for name, label in (
            ("score", "score: smoothed over depths"),
            ("held_out", "accuracy on held-out training labels"),
        )
    ]
    blocks.append(
        charts.line_chart(
            scores,
            "per cent",
            xlabel="depth K",
            title="What the prediction is made of",
            caption="Two classifiers, each from half of the training labels: how often they are right on the other "
            "half, in the mean of ten halvings. The score is that, smoothed over neighbouring depths; its highest "
            "place is the prediction.",
            marks=marks,
        )
    )
    return blocks


def _smoothing(record: Record) -> list[Block]:
    features = record["features"]
    if features is None:
        return []
    curves = []
    for name, label in (("features", "features"), ("labels", "labels")):
        entry = record[name]
        if entry is None or not entry["energy"] or entry["energy"][0] <= 0:
            continue
        first = entry["energy"][0]
        curves += [
            {
                "label": f"{label}, predicted",
                "x": entry["depths"],
                "mean": [v / first for v in entry["energy"]],
            },
            {
                "label": f"{label}, measured",
                "x": entry["depths"],
                "mean": [max(v, 0.0) / first for v in entry["measured_energy"]],
            },
        ]
    if not curves:
        return [Text("The features are at their limit from the start: there is nothing to smooth.")]
    how = {
        "dense": "all eigenvectors",
        "columns": "Lanczos quadrature from every column",
        "probes": "Lanczos quadrature from random combinations of columns",
    }[features["method"]]
    return [
        charts.line_chart(
            curves,
            "share of the Dirichlet energy left",
            xlabel="layers K",
            title="How propagation smooths",
            caption=f"Predicted from the spectrum ({how}), and measured by K products. Largest relative difference "
            f"for the features: {features['difference']:.1e}.",
            scale="log",
            decimals=3,
        )
    ]


def _spectrum(record: Record) -> list[Block]:
    blocks: list[Block] = []
    found = record["density"]
    if found is not None:
        how = "counted" if found["exact"] else "estimated (kernel polynomial method)"
        blocks.append(
            charts.histogram(
                *(found["edges"], [max(0.0, v) for v in found["mass"]]),
                "eigenvalue of P with self-loops",
                "share of eigenvalues",
                label=f"eigenvalues, {how}",
                title="The spectrum of propagation",
                caption="What lies near 1 survives propagation, what lies near 0 is gone after one layer, what lies "
                "below 0 changes sign at every layer.",
            )
        )
    spectrum = record["spectrum"]
    rows: list[list[str | Cell]] = []
    for name, (sign, meaning) in EIGENVALUES.items():
        entry = spectrum[name]
        if entry is not None:
            rows.append([sign, Cell(number(entry["value"]), entry["value"]), residual(entry), meaning])
    if rows:
        blocks.append(
            Table(
                "Eigenvalues with the bound of their residual",
                [
                    Column("eigenvalue"),
                    Column("value", "right"),
                    Column("residual", "right"),
                    Column("what it is"),
                ],
                rows,
                [
                    f"Multiplicity of 0: {spectrum['zero_multiplicity']}; of 2: {spectrum['two_multiplicity']}."
                ],
            )
        )
    return blocks


def _labels(record: Record) -> list[Block]:
    mixing = record["homophily"]
    if mixing is None or mixing["edge"] is None:
        return []
    rows: list[list[str | Cell]] = [
        [name, Cell(number(mixing[key]), mixing[key]), meaning]
        for key, name, meaning in (
            ("edge", "edge homophily", "share of edges whose ends have one class"),
            ("expected", "expected", "the same for random edges with these degrees"),
            ("adjusted", "adjusted", "0 at chance, 1 at perfect agreement"),
            ("node", "node homophily", "mean share of a node's neighbours with its class"),
            ("class_insensitive", "class-insensitive", "excess over the classes' shares"),
            ("informativeness", "label informativeness", "what a neighbour's class tells of a node's own"),
        )
    ]
    columns = [Column("measure"), Column("value", "right"), Column("what it is")]
    return [Table("How the labels lie on the edges", columns, rows)]


def _components(record: Record) -> list[Block]:
    blocks: list[Block] = []
    if len(record["component_sizes"]) > 1:
        blocks.append(_sizes(record["component_sizes"], record["component_counts"]))
    degrees = record["graph"]["degrees"]
    parts = record["spectrum"]["components"]
    rows: list[list[str | Cell]] = [
        ["components", f"{parts['count']:,}"],
        ["isolated nodes", f"{parts['isolated']:,}"],
        ["bipartite components with edges", f"{parts['bipartite']:,}"],
        ["largest component, nodes", f"{parts['largest'][0]:,}" if parts["largest"] else "–"],
        ["self-loops", f"{record['graph']['self_loops']:,}"],
    ]
    rows += [[f"degree, {name}", number(value)] for name, value in degrees.items()]
    blocks.append(Table("Components and degrees", [Column("quantity"), Column("value", "right")], rows))
    return blocks


def _sizes(sizes: list[int], counts: list[int]) -> Figure:
    edges = [2.0**power for power in range(max(sizes).bit_length() + 1)]
    heights, _ = np.histogram(np.array(sizes), edges, weights=np.array(counts))
    return charts.histogram(
        *(edges, heights.tolist()),
        "nodes of a component",
        "components",
        label="components of that size",
        title="Sizes of the components",
        caption="Each bin is twice as wide as the one before.",
        scale="log",
    )
