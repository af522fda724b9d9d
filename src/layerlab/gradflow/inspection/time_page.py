"""Jacobians through time on a page: one figure for each recurrent layer, and a table. Draws the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerlab.gradflow.inspection.text import Record, decimal, horizon, last, tens
from layerlab.lab.report import charts
from layerlab.lab.report.page import Block, Cell, Column, Figure, Table

# Of more layers and directions the table has all, and the figures the first.
_FIGURES = 4

_BOUNDS = {
    "weights": "bound of the weights, any input",
    "gates": "bound at these gates and slopes",
    "steps": "product of the steps' norms",
}


def through_time_blocks(found: Record) -> list[Block]:
    """Figures and table of ``ThroughTime.to_dict()``."""
    layers = found["layers"]
    blocks: list[Block] = [_figure(layer) for layer in layers[:_FIGURES]]
    rows: list[list[str | Cell]] = []
    for layer in layers:
        measured, bounds = (
            last(layer["log_sigma_max"]["median"]),
            {b["name"]: last(b["log"]) for b in layer["bounds"]},
        )
        rows.append(
            [
                layer["label"],
                Cell(str(layer["steps"] - 1), layer["steps"] - 1),
                Cell(decimal(measured), measured),
                *(Cell(decimal(bounds[name]), bounds[name]) for name in _BOUNDS),
                horizon(layer),
            ]
        )
    columns = [
        Column("recurrent layer"),
        *(Column(name, "right") for name in ("lags", "σ\u00a0max", "weights", "gates", "steps")),
        Column("horizon"),
    ]
    note = (
        "log₁₀ at the last lag, median over samples: σ max of ∂s_t/∂s_1 (s is the state), then its bounds: of the "
        "weights for any input, of the gates and slopes measured, of the norms of the steps. Horizon: the lag from "
        f"which σ max is below {found['threshold']:g} or above {1 / found['threshold']:g}; in brackets where "
        "extrapolated."
    )
    blocks.append(Table("At the last lag", columns, rows, [note]))
    return blocks


def remarks(found: Record) -> list[str]:
    """How far back each recurrent layer reaches, in a sentence.

    No verdict: a state that forgets within the sequence is what an untrained recurrent net does. `verdict.judge` says
    when it is a fault.
    """
    return [
        f"Through time, {layer['label']}: {layer['summary'].partition(': ')[2]}."
        for layer in found["layers"][:_FIGURES]
    ]


def _figure(layer: Record) -> Figure:
    spread = layer["log_sigma_max"]
    curves = [_curve("σ max of ∂s_t/∂s_1, median", spread["median"], spread["min"], spread["max"])]
    curves += [_curve(_BOUNDS[bound["name"]], bound["log"]) for bound in layer["bounds"]]
    return charts.line_chart(
        [curve for curve in curves if curve["x"]],
        "log₁₀",
        xlabel="lag t − 1, steps",
        title=f"Through time: {layer['label']}",
        caption=f"{layer['label']}: how much of a change of the first state is left after so many steps, at most. "
        f"The band spans {layer['samples']} samples.",
        decimals=2,
    )


def _curve(label: str, *lines: Sequence[float | None]) -> dict[str, Any]:
    """A curve, with a band from the second and third line; lags at which one is not known are left out."""
    known = [(lag, values) for lag, values in enumerate(zip(*lines, strict=True)) if None not in values]
    names = ("mean", "low", "high")[: len(lines)]
    return {
        "label": label,
        "x": [lag for lag, _ in known],
        **{name: [tens(values[i]) for _, values in known] for i, name in enumerate(names)},
    }
