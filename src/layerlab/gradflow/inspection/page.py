"""The profile of a model on a page: verdict, figures against depth, layers. Draws the record, computes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerlab.gradflow.inspection import text
from layerlab.gradflow.inspection.text import Record
from layerlab.gradflow.inspection.time_page import remarks, through_time_blocks
from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts
from layerlab.lab.report.heatmap import heat_map
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
    Text,
)
from layerlab.lab.report.race import environment_section

_DEPTH = "layer, counted from the input"

# A σ min below this share of σ max is rounding error, and would press everything else together.
_ROUNDING = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-2, "bfloat16": 5e-2}

# More samples than can be told apart in a figure.
_MOST_SAMPLES = 128

_WHOSE = {
    "random": "here of random directions at the output, since no loss was given",
    "loss": "here of the loss",
}

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_FIRST = (Column("#", "right"), Column("layer"))


def profile_page(run: RunFolder) -> Page:
    """The page of one inspection of a model, drawn from its record."""
    record: Record = run.meta["results"]
    verdict, time = record["verdict"], record["through_time"]
    sections = [
        Section("Remedies", "remedies", _remedies(record["remedies"])),
        Section("Gradients", "gradients", _gradients(record)),
        Section("Singular values and their bounds", "singular-values", _singular_values(record)),
        Section(
            "Through time",
            "time",
            through_time_blocks(time) if time else [],
        ),
        Section("Activations", "activations", _activations(record)),
        Section(
            "Layers", "layers", [_gradient_table(record), _singular_value_table(record), _bound_table(record)]
        ),
        Section("Notes", "notes", [Bullets([_sentence(note) for note in record["notes"]])]),
        environment_section(run.meta),
    ]
    samples = f"{record['samples']} samples" if record["separate"] else "the batch as one sample"
    return Page(
        f"Gradients in {record['model']}",
        f"{record['subject']}: {record['parameters']:,} parameters, {len(record['layers'])} layers, {record['mode']} "
        f"mode, {record['dtype']}; measured on {samples} in {record['seconds']:.1f} s.",
        [
            Callout(verdict["kind"], _sentence(verdict["sentence"])),
            KeyFigures(_key_figures(record)),
            *([Bullets(remarks(time))] if time else []),
        ],
        [section for section in sections if section.blocks],
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _key_figures(record: Record) -> list[KeyFigure]:
    layers, gradients = record["layers"], text.gradients(record)
    first, last = gradients[0], text.product(layers[-1])
    found = [
        KeyFigure(_power(first), "of the output's gradient at the input"),
        KeyFigure(
            _power(last),
            "σ max of the whole model",
            f"bound: {_power(text.tens(layers[-1]['log_product_bound']))}",
        ),
    ]
    blamed = next((i for i, layer in enumerate(layers) if layer["name"] == record["verdict"]["layer"]), None)
    if blamed is not None:
        found.append(
            KeyFigure(f"{blamed + 1} of {len(layers)}", "layer where it starts", layers[blamed]["name"])
        )
    if (change := _most_changing(record)) is not None:
        found.append(
            KeyFigure(f"× {_power(change[0])}", "most that one layer changes the gradient", change[1])
        )
    if (worst := _flattest(layers)) is not None and worst[0] > 0:
        share, what, name = worst
        found.append(KeyFigure(f"{100 * share:.0f} %", f"{what} in the worst layer", name))
    return found


def _most_changing(record: Record) -> tuple[float, str] | None:
    names = [layer["name"] for layer in record["layers"]]
    known = [(c, name) for c, name in zip(text.changes(record), names, strict=True) if c is not None]
    return max(known, key=lambda entry: abs(entry[0]), default=None)


def _flattest(layers: Sequence[Record]) -> tuple[float, str, str] | None:
    found = [(*flat, layer["name"]) for layer in layers if (flat := text.flat(layer)) is not None]
    if not found:
        return None
    share, what, name = max(found)
    return share, "saturated" if what == "sat." else "dead units", name


def _power(log: float | None) -> str:
    """A number by its decimal logarithm, whatever its size."""
    if log is None:
        return "–"
    if -4 < log < 5:
        return text.number(10**log, 3)
    exponent = math.floor(log)
    return f"{10 ** (log - exponent):.1f} · 10{str(exponent).translate(_SUPERSCRIPTS)}"


def _curve(label: str, values: Sequence[float | None]) -> dict[str, Any]:
    """Values of layers 1, 2, …; the line passes over layers that have none."""
    known = [(position, value) for position, value in enumerate(values, 1) if value is not None]
    return {"label": label, "x": [x for x, _ in known], "mean": [value for _, value in known]}


def _drawn(*curves: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that have something to draw."""
    return [curve for curve in curves if curve["mean"]]


def _above_rounding(record: Record) -> list[float | None]:
    """σ_min of each layer where it is more than rounding error."""
    share = _ROUNDING[record["dtype"]]
    ends = [(text.smallest(layer), text.largest(layer)[0]) for layer in record["layers"]]
    return [low if low is not None and top is not None and low > share * top else None for low, top in ends]


def _blame(record: Record) -> list[dict[str, Any]]:
    """An upright line at the layer of the verdict."""
    names = [layer["name"] for layer in record["layers"]]
    layer = record["verdict"]["layer"]
    return (
        [{"label": f"verdict: {text.shortened(layer, 24)}", "x": names.index(layer) + 1}]
        if layer in names
        else []
    )


def _gradients(record: Record) -> list[Block]:
    layers, relative = record["layers"], text.gradients(record)
    if all(value is None for value in relative):
        return [Text("No gradient reaches any layer.")]
    blocks: list[Block] = [
        charts.line_chart(
            _drawn(
                _curve("gradient at the layer's input", [*relative, 0.0]),
                _curve("largest ‖∇W‖ / ‖W‖", [text.weight_gradient(layer) for layer in layers]),
            ),
            "log₁₀",
            xlabel=_DEPTH,
            title="Gradients against depth",
            caption="Norms in root mean square over samples, relative to the gradient at the output (the last point); "
            f"{_WHOSE[record['cotangent']]}. −3 is a thousandth.{_averages(record)}",
            decimals=2,
            marks=_blame(record),
        )
    ]
    if record["separate"] and 1 < record["samples"] <= _MOST_SAMPLES and len(layers) > 1:
        blocks.append(_by_sample(record))
    return blocks


def _averages(record: Record) -> str:
    if all(layer["designed"] == 0 for layer in record["layers"]):
        return ""
    return " The factor 1/√n of an average over n places is taken out: it is meant."


def _by_sample(record: Record) -> Figure:
    ends = record["log_output_gradient"]
    values = [
        [
            None if g is None or end is None else text.tens(g - end - behind)
            for g, end in zip(layer["log_gradient"], ends, strict=True)
        ]
        for layer, behind in zip(record["layers"], text.designed(record), strict=True)
    ]
    return heat_map(
        values,
        rows=[layer["name"] for layer in record["layers"]],
        columns=[str(sample + 1) for sample in range(record["samples"])],
        title="Gradients by layer and sample",
        caption="The same for each sample: a column that stands out is a sample the model hardly learns from.",
        unit="log₁₀, relative to the output's",
        xlabel="sample",
    )


def _singular_values(record: Record) -> list[Block]:
    layers = record["layers"]
    per_layer = _drawn(
        _curve("σ max", [text.largest(layer)[0] or None for layer in layers]),
        _curve("bound", [layer["bound"] or None for layer in layers]),
        _curve("σ min", _above_rounding(record)),
    )
    products = _drawn(
        _curve("σ max", [text.product(layer) for layer in layers]),
        _curve("product of the bounds", [text.tens(layer["log_product_bound"]) for layer in layers]),
        _curve("σ min", [_product_min(layer) for layer in layers]),
    )
    blocks: list[Block] = []
    if per_layer:
        blocks.append(
            charts.line_chart(
                per_layer,
                "singular value",
                xlabel=_DEPTH,
                title="Singular values of each layer's Jacobian",
                caption="Largest over the samples, and the bound that theory gives: above the bound nothing can lie. "
                "Where σ min is missing, it is 0 up to rounding, or unknown.",
                scale="log",
                decimals=3,
                marks=_blame(record),
            )
        )
    if products:
        blocks.append(
            charts.line_chart(
                products,
                "log₁₀",
                xlabel=_DEPTH,
                title="Singular values of the product, from the input to each layer",
                caption="How much the way up to a layer can stretch a change of the input, at most. The bound ends "
                "where a layer has none.",
                decimals=2,
                marks=_blame(record),
            )
        )
    return blocks


def _product_min(layer: Record) -> float | None:
    if layer["log_product_min"] is None:
        return None
    return text.tens(min((v for v in layer["log_product_min"] if v is not None), default=None))


def _activations(record: Record) -> list[Block]:
    found = [text.flat(layer) for layer in record["layers"]]
    if not any(found):
        return []
    if all(flat is None or flat[0] == 0 for flat in found):
        return [Text("No unit is dead, and no entry saturated.")]
    curves = _drawn(
        *(
            _curve(label, [100 * flat[0] if flat is not None and flat[1] == what else None for flat in found])
            for label, what in (("saturated entries", "sat."), ("dead units", "dead"))
        )
    )
    return [
        charts.line_chart(
            curves,
            "per cent",
            xlabel=_DEPTH,
            title="Units without a slope",
            caption="Saturated: the slope is below 5 per cent of its largest (sigmoid, tanh, softmax). Dead: the slope "
            "is 0 at every sample (ReLU and its kin). The worst activation of each layer.",
            marks=_blame(record),
        )
    ]


def _remedies(tried: Sequence[Record]) -> list[Block]:
    if not tried:
        return []
    rows: list[list[str | Cell]] = []
    for remedy in tried:
        before, after = (text.tens(remedy[f"log_factor_{when}"]) for when in ("before", "after"))
        found = remedy["verdict_after"]
        rows.append(
            [
                remedy["name"],
                Cell(verdict=found["kind"]) if found else "could not be tried",
                Cell(text.decimal(before), before),
                Cell(text.after(remedy), after),
            ]
        )
    note = (
        "Before and after: log₁₀ of the least gradient on the way (if it explodes, the greatest), relative to the "
        "output's. A remedy mends the gradient at these weights; whether the model then learns better, training must "
        "tell."
    )
    columns = [Column("remedy"), Column("then"), Column("before", "right"), Column("after", "right")]
    return [
        Table("Remedies, each tried on a copy of the model", columns, rows, [note]),
        Bullets([f"**{remedy['name']}**: {remedy['what']} ({remedy['reference']})" for remedy in tried]),
    ]


def _gradient_table(record: Record) -> Table:
    rows: list[list[str | Cell]] = []
    for index, (layer, gradient) in enumerate(zip(record["layers"], text.gradients(record), strict=True)):
        flat, ratio = text.flat(layer), text.weight_gradient(layer)
        rows.append(
            [
                *_names(index, layer),
                layer["kind"],
                Cell(text.decimal(gradient), gradient),
                Cell(text.decimal(ratio) if layer["weights"] else "", ratio),
                Cell(text.flatness(layer), None if flat is None else flat[0]),
            ]
        )
    columns = ("gradient", "∇W / W", "flat")
    return Table(
        "Gradients, and units without a slope",
        [*_FIRST, Column("type"), *(Column(name, "right") for name in columns)],
        rows,
        [
            "Gradient: log₁₀ at the layer's input, relative to the output's. ∇W / W: log₁₀ of the largest ratio among "
            "its weights. Flat: the share of entries that are saturated, or of units that are dead, in its worst "
            "activation."
        ],
    )


def _singular_value_table(record: Record) -> Table:
    rows: list[list[str | Cell]] = []
    for index, layer in enumerate(record["layers"]):
        product = text.product(layer)
        rows.append(
            [
                *_names(index, layer),
                Cell(text.sigma(layer), text.largest(layer)[0]),
                Cell(text.bound(layer), layer["bound"]),
                Cell(text.slack(layer), layer["slack"]),
                Cell(text.sigma_min(layer), text.smallest(layer)),
                Cell(text.decimal(product), product),
            ]
        )
    columns = ("σ\u00a0max", "bound", "slack", "σ\u00a0min", "product")
    return Table(
        "Singular values of each layer's Jacobian",
        [*_FIRST, *(Column(name, "right") for name in columns)],
        rows,
        [
            "σ max, σ min: the largest and smallest of all samples; ± the residual of an iterative solution, ≤ an "
            "upper bound. A bound with *here* holds at these inputs only (attention, normalisation), the others at "
            "any. Slack: bound divided by σ max. Product: log₁₀ of σ max from the input to here."
        ],
    )


def _bound_table(record: Record) -> Table:
    rows: list[list[str | Cell]] = [
        [*_names(index, layer), Cell(text.bound(layer), layer["bound"]), layer["bound_reason"]]
        for index, layer in enumerate(record["layers"])
    ]
    return Table("Where the bounds come from", [*_FIRST, Column("bound", "right"), Column("factors")], rows)


def _names(index: int, layer: Record) -> list[str | Cell]:
    name = layer["name"]
    return [Cell(str(index + 1), index + 1), name if "`" in name else f"`{name}`"]
