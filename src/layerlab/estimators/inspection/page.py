"""An inspection of a function on a page: recommendation, table, figures. Draws the record, computes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerlab.estimators.inspection import text
from layerlab.estimators.inspection.text import Record
from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts, figures
from layerlab.lab.report.page import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)
from layerlab.lab.report.race import environment_section
from layerlab.lab.report.words import plain

# What the cells of `text.COLUMNS` are sorted by.
_SORTED = dict(
    zip(
        text.COLUMNS,
        ("", "variance", "ratio", "signal_to_noise", "", "", "cost", "overhead_seconds", ""),
        strict=True,
    )
)
_OF_VARIANCE = ("estimator", "variance", "relative", "signal/noise", "how")
_OF_BIAS = ("estimator", "bias", "z (limit)", "calls", "own time")


def inspection_page(run: RunFolder) -> Page:
    """The page of one inspection of a function, drawn from its record."""
    record: Record = run.meta["results"]
    found = record["recommendation"]
    sections = [
        Section(
            "Variance",
            "variance",
            [
                _table(
                    record,
                    _OF_VARIANCE,
                    f"At {record['samples']:,} evaluations an estimate; ▸ is recommended.",
                ),
                *_ratios(record),
            ],
        ),
        Section(
            "Bias and cost",
            "bias",
            [_table(record, _OF_BIAS, "Held against the gradient; and what a draw costs.")],
        ),
        Section("Against the probability of a 1", "mu", _curves(record)),
        Section("Does not apply", "not-applicable", _refused(record)),
        Section("Notes", "notes", _notes(record)),
        environment_section(run.meta),
    ]
    return Page(
        f"Gradient estimators on {record['subject']}",
        f"{text.title(record)[len(record['subject']) + 2 :]}; {record['seconds']:.1f} s.",
        [
            Callout("note" if record["gradient"]["zero"] else "measured", _sentence(text.verdict(record))),
            KeyFigures(_key_figures(record)),
            *([Bullets([_sentence(one) for one in found["remarks"]])] if found["remarks"] else []),
        ],
        [section for section in sections if section.blocks],
    )


def _sentence(words: str) -> str:
    # The function is called f, not F.
    first = words[:1] if words.startswith(("f ", "f:")) else words[:1].upper()
    return f"{first}{words[1:]}."


def _chosen(record: Record) -> Record:
    name = record["recommendation"]["name"]
    return next(entry for entry in record["estimators"] if entry["name"] == name)


def _key_figures(record: Record) -> list[KeyFigure]:
    chosen, f = _chosen(record), record["f"]
    how = "measured" if chosen["how"] == "measured" else "exact"
    return [
        KeyFigure(text.number(chosen["ratio"]), "of the variance of REINFORCE", f"{chosen['name']}, {how}"),
        KeyFigure(
            text.signal(chosen, record),
            "signal to noise",
            f"at {record['samples']:,} evaluations an estimate",
        ),
        KeyFigure(
            text.number(record["gradient"]["length"]),
            "length of the gradient",
            "exact" if record["gradient"]["exact"] else "measured",
        ),
        KeyFigure(
            text.number(f["best_baseline"]),
            "best constant baseline",
            f"the mean of f is {text.number(f['mean'])}",
        ),
    ]


def _table(record: Record, columns: Sequence[str], caption: str) -> Table:
    rows = []
    for entry in record["estimators"]:
        cells = dict(zip(text.COLUMNS, text.row(entry, record), strict=True))
        if entry["name"] == record["recommendation"]["name"]:
            cells["estimator"] = f"▸ {cells['estimator']}"
        rows.append([Cell(cells[name], entry[_SORTED[name]] if _SORTED[name] else None) for name in columns])
    return Table(
        caption,
        [Column(name, "left" if name == "estimator" else "right") for name in columns],
        rows,
        [" ".join(text.LEGEND[name] for name in columns if name in text.LEGEND)],
    )


def _ratios(record: Record) -> list[Block]:
    """Variances relative to REINFORCE's, on a scale of powers."""
    drawn = [
        {
            "label": text.name(entry),
            "mean": math.log10(entry["ratio"]),
            "low": math.log10(entry["ratio_low"]),
            "high": math.log10(entry["ratio_high"]),
        }
        for entry in record["estimators"]
        if entry["name"] != "reinforce" and all(entry[key] for key in ("ratio", "ratio_low", "ratio_high"))
    ]
    none = [text.name(entry) for entry in record["estimators"] if entry["ratio"] == 0]
    blocks: list[Block] = []
    if drawn:
        bars = "the range over the parameters" if record["sampled"] not in (None, 1) else "95 % intervals"
        blocks.append(
            figures.paired_differences(
                drawn,
                "log₁₀ of the variance relative to plain REINFORCE",
                title="Variance relative to REINFORCE",
                caption=f"Left of 0 is less than REINFORCE; −1 is a tenth. Bars: {bars}; exact figures have none.",
                decimals=2,
            )
        )
    if none:
        blocks.append(Text(f"Without any variance here, and so not in the figure: {', '.join(none)}."))
    return blocks


def _curves(record: Record) -> list[Block]:
    found = record["curves"]
    if found is None:
        return []
    marks = [] if record["mu"] is None else [{"label": "inspected", "x": record["mu"]}]
    how = (
        "Exact: from the values of f that are there, without another call."
        if found["how"] == "exact"
        else "Measured, with 95 % intervals."
    )
    blocks: list[Block] = []
    variances = [
        {
            "label": curve["name"],
            "x": found["mu"],
            "mean": curve["variance"],
            **({} if curve["low"] is None else {"low": _above(curve["low"]), "high": _above(curve["high"])}),
        }
        for curve in found["estimators"]
        if any(curve["variance"])
    ]
    signals = [
        {"label": curve["name"], "x": found["mu"], "mean": curve["signal_to_noise"]}
        for curve in found["estimators"]
        if any(value for value in curve["signal_to_noise"] if value is not None)
    ]
    for curves, label, about in (
        (variances, "variance", "All bits have the same probability of a 1; a gap is a variance of 0."),
        (signals, "signal / noise", "Below 1 an estimate is more noise than gradient."),
    ):
        if curves:
            blocks.append(
                charts.line_chart(
                    curves,
                    label,
                    xlabel="probability of a 1",
                    title=f"{label} against the probability of a 1".capitalize(),
                    caption=f"{about} {how}",
                    decimals=2,
                    scale="log",
                    marks=marks,
                )
            )
    if none := [curve["name"] for curve in found["estimators"] if not any(curve["variance"])]:
        blocks.append(
            Text(f"Without any variance at every probability, and so not drawn: {', '.join(none)}.")
        )
    return blocks


def _above(values: Sequence[float]) -> list[float | None]:
    """A logarithmic scale has no place for 0."""
    return [value if value > 0 else None for value in values]


def _refused(record: Record) -> list[Block]:
    lines = [f"**{', '.join(names)}** {plain(why)}." for why, names in text.refused(record).items()]
    return [Bullets(lines)] if lines else []


def _notes(record: Record) -> list[Any]:
    return [Bullets([plain(_sentence(one)) for one in [*record["notes"], *text.facts(record)]])]
