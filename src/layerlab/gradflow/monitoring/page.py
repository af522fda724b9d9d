"""The page of a `layerlab.gradflow.monitoring.record.Record`: heat maps of layers against steps of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from layerlab import __version__
from layerlab.errors import UserError
from layerlab.gradflow.monitoring.record import Record
from layerlab.lab.report.heatmap import Scale, heat_map
from layerlab.lab.report.page import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Definitions,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)

_COLUMNS = 120
"""Snapshots in a heat map; more would be narrower than a line."""


@dataclass(frozen=True)
class _Map:
    measure: str
    title: str
    unit: str
    caption: str
    scale: Scale = "log"
    limits: tuple[float, float] | None = None


_SECTIONS: tuple[tuple[str, str, tuple[_Map, ...]], ...] = (
    (
        "Gradients",
        "gradients",
        (
            _Map(
                "gradient_out",
                "Gradient norm at each layer's output",
                "gradient norm at the output",
                "**Norm of the loss gradient at each layer's output**, the first layer above. Colours that darken "
                "upwards: gradients vanish on their way to the first layers. Colours that brighten: they grow.",
            ),
            _Map(
                "gain",
                "Backward gain of each layer",
                "log₁₀ of the gain",
                "**Backward gain**: the norm of what a layer hands back to its input, over the norm that arrives at "
                "its output, as a power of ten. Brown shrinks the gradient, purple amplifies it, white keeps it. Only "
                "what comes through the layer counts, not what a residual branch adds.",
                "diverging",
            ),
            _Map(
                "relative_gradient",
                "Gradient of each layer's weights",
                "gradient norm / weight norm",
                "**Gradient of the weights relative to their norm.** A dark row is a layer that hardly learns.",
            ),
            _Map(
                "update_ratio",
                "Step of the optimiser",
                "|change| / |weights|",
                "**What the optimiser's step changes**, relative to the norm of the weights.",
            ),
        ),
    ),
    (
        "Activations",
        "activations",
        (
            _Map(
                "saturated",
                "Saturated share",
                "saturated share",
                "**Saturated share**: entries where an activation's slope is below 5 per cent of its largest. For a "
                "ReLU these are the entries that are off; half of them is usual.",
                "linear",
                (0, 1),
            ),
            _Map(
                "dead",
                "Dead units",
                "share of dead units",
                "**Dead units**: units whose slope is 0 at every sample and position of the batch; no gradient passes.",
                "linear",
                (0, 1),
            ),
            _Map(
                "activation_rms",
                "Size of each layer's output",
                "root mean square",
                "**Size of the outputs** (root mean square).",
            ),
        ),
    ),
)


def page(record: Record) -> Page:
    """The record as a page: key figures, what stands out, heat maps, the last snapshot as a table.

    Raises:
        UserError: nothing was recorded.
    """
    if not record.snapshots:
        raise UserError("nothing was recorded: there is no snapshot to draw; run at least one step")
    kept = _thinned(len(record.snapshots))
    steps = [str(record.snapshots[k]["step"]) for k in kept]
    sections = []
    for title, anchor, maps in _SECTIONS:
        blocks = [block for entry in maps for block in _drawn(record, entry, kept, steps)]
        if blocks:
            sections.append(Section(title, anchor, blocks))
    sections.append(Section("The last snapshot", "last", [_table(record)]))
    sections.append(Section("How it was measured", "how", _how(record, len(kept))))
    return Page(
        f"Training of {record.model}",
        f"Gradients and activations of each layer over {_count(record.steps)} steps.",
        [_key_figures(record), *_findings(record)],
        sections,
        f"Made by layerlab {__version__}.",
    )


def _name(record: Record, row: str) -> str:
    """A row's name; numbers ("3.0") tell nothing, so the kind stands beside them."""
    kind = next(entry["kind"] for entry in record.layers if entry["name"] == row)
    last = row.rpartition(".")[2].partition("#")[0]
    return f"{row} {kind}" if last.isdigit() else row


def _thinned(count: int) -> list[int]:
    if count <= _COLUMNS:
        return list(range(count))
    return sorted({round(k * (count - 1) / (_COLUMNS - 1)) for k in range(_COLUMNS)})


def _drawn(record: Record, entry: _Map, kept: Sequence[int], steps: Sequence[str]) -> list[Block]:
    series = {name: [line[k] for k in kept] for name, line in record.series(entry.measure).items()}
    if entry.scale == "diverging":
        series = {name: [math.log10(v) if v else None for v in line] for name, line in series.items()}
    known = [v for line in series.values() for v in line if v is not None]
    if not known or (entry.scale == "log" and max(known) <= 0):
        return []
    if entry.limits is not None and max(known) <= 0:
        return [Text(f"{entry.title}: none, in no layer at no watched step.")]
    return [
        heat_map(
            list(series.values()),
            rows=[_name(record, name) for name in series],
            columns=steps,
            title=entry.title,
            caption=entry.caption,
            unit=entry.unit,
            xlabel="step",
            scale=entry.scale,
            limits=entry.limits,
        )
    ]


def _key_figures(record: Record) -> KeyFigures:
    items = [
        KeyFigure(_count(len(record.snapshots)), "snapshots", f"of {_count(record.steps)} steps"),
    ]
    spread = _spread(record)
    if spread is not None:
        first, last = spread
        ratio = first[1] / last[1]
        items.append(
            KeyFigure(
                _factor(ratio),
                "gradient, first layer to last",
                f"`{_name(record, first[0])}` over `{_name(record, last[0])}`, last snapshot",
            )
        )
    dead = _largest(record.series("dead"))
    if dead is not None:
        items.append(
            KeyFigure(f"{dead[1]:.0%}", "most dead units", f"`{_name(record, dead[0])}`, last snapshot")
        )
    share = record.overhead["share"]
    items.append(
        KeyFigure(f"{100 * share:.1f} %", "cost of watching", f"{record.overhead['seconds']:.2g} s in all")
    )
    return KeyFigures(items)


def _findings(record: Record) -> list[Block]:
    blocks: list[Block] = []
    if (bad := record.first_not_finite) is not None:
        step, where = bad
        earlier = [s["step"] for s in record.snapshots if s["step"] < step]
        since = f" The snapshot before, of step {earlier[-1]}, had none." if earlier else ""
        blocks.append(Callout("violated", f"NaN or Inf at step {step}, first in {where}.{since}"))
    said = []
    if (spread := _spread(record)) is not None:
        (first, a), (last, b) = spread
        step = record.snapshots[-1]["step"]
        said.append(
            f"At step {step} the gradient norm is {b:.2g} at `{_name(record, last)}` and {a:.2g} at "
            f"`{_name(record, first)}`."
        )
    for measure, words in (("saturated", "most saturated"), ("dead", "most dead units")):
        if (most := _largest(record.series(measure))) is not None and most[1] > 0:
            said.append(f"The {words}: `{_name(record, most[0])}`, {most[1]:.0%}.")
    slowest = [(v, name) for name, v in _last(record.series("relative_gradient")).items()]
    if slowest:
        value, name = min(slowest)
        said.append(f"The smallest gradient relative to the weights: `{_name(record, name)}`, {value:.2g}.")
    if said:
        blocks.append(Text(" ".join(said)))
    return blocks


def _spread(record: Record) -> tuple[tuple[str, float], tuple[str, float]] | None:
    """The first and the last layer with weights, and the gradient at their outputs in the last snapshot."""
    gradients = _last(record.series("gradient_out"))
    weighted = [name for name in record.series("weight_norm") if gradients.get(name, 0.0) > 0]
    if len(weighted) < 2:
        return None
    first, last = weighted[0], weighted[-1]
    return (first, gradients[first]), (last, gradients[last])


def _last(series: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    return {name: line[-1] for name, line in series.items() if line[-1] is not None}


def _largest(series: Mapping[str, Sequence[float | None]]) -> tuple[str, float] | None:
    last = _last(series)
    return max(last.items(), key=lambda item: item[1]) if last else None


_SHOWN: tuple[tuple[str, str, Literal["share", "number"]], ...] = (
    ("activation_rms", "output", "number"),
    ("saturated", "saturated", "share"),
    ("dead", "dead", "share"),
    ("gradient_out", "gradient", "number"),
    ("gain", "gain", "number"),
    ("relative_gradient", "weights' gradient", "number"),
    ("update_ratio", "update", "number"),
)


def _table(record: Record) -> Table:
    last = record.snapshots[-1]
    shown = [column for column in _SHOWN if any(column[0] in row for row in last["layers"].values())]
    rows = []
    for layer in record.layers:
        row = last["layers"].get(layer["name"])
        if row is None:
            continue
        cells = [_cell(row.get(measure), kind) for measure, _, kind in shown]
        rows.append(
            [
                Cell(f"`{layer['name']}` {'' if layer['name'].endswith(layer['kind']) else layer['kind']}"),
                *cells,
            ]
        )
    return Table(
        f"Every layer at step {last['step']}, in order of execution.",
        [Column("layer"), *(Column(label, "right") for _, label, _ in shown)],
        rows,
    )


def _cell(value: float | None, kind: str) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("" if value is None else "not finite")
    return Cell(f"{value:.0%}" if kind == "share" else f"{value:.2g}", sort=value)


def _how(record: Record, drawn: int) -> list[Block]:
    overhead = record.overhead
    items = [
        ("Steps", f"{_count(record.steps)}, of which {_count(len(record.snapshots))} were watched"),
        ("Cost", f"{overhead['seconds']:.3g} s for {overhead['training']:.3g} s of training"),
        ("Batch", "of each watched step; shares and norms are those of its samples, not of the data set"),
        ("A missing cell", "nothing was measured: no gradient arrived, or it was NaN or Inf"),
    ]
    if drawn < len(record.snapshots):
        items.append(("Drawn", f"{drawn} of the snapshots, evenly spaced"))
    blocks: list[Block] = [Definitions(items)]
    if record.notes:
        blocks.append(Bullets(record.notes))
    return blocks


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _factor(ratio: float) -> str:
    if 0.01 <= ratio < 1000:
        return f"× {ratio:.2g}"
    power = math.floor(math.log10(ratio))
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"× {ratio / 10**power:.0f}·10{digits}"
