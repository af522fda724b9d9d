"""A linearization on a page: verdict, errors by layer, speeds, how to use it. Draws the record, computes nothing."""

from __future__ import annotations

from layerlab.attention.linearize import text
from layerlab.attention.linearize.text import Record, percent
from layerlab.lab.records import RunFolder
from layerlab.lab.report.page import (
    Bullets,
    Callout,
    Cell,
    Column,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
)
from layerlab.lab.report.race import environment_section
from layerlab.lab.report.words import plain

_LEFT = 3  # columns of text


def linearization_page(run: RunFolder) -> Page:
    """The page of one linearization, drawn from its record."""
    record: Record = run.meta["results"]
    sections = [
        Section("Error of the output", "errors", [_errors(record)]),
        Section("Every mechanism", "mechanisms", [_mechanisms(record)]),
        Section("Remarks", "remarks", [Bullets([plain(remark) for remark in text.remarks(record)])]),
        environment_section(run.meta),
    ]
    whole = record["whole"]
    figures = [
        KeyFigure(
            percent(whole["measured"]), "error of the output", f"predicted: {percent(whole['predicted'])}"
        ),
        KeyFigure(percent(whole["zeroed"]), "with an output of 0 in their place"),
        KeyFigure(
            f"{whole['seconds_before'] / whole['seconds_after']:.2f}",
            "times as fast",
            f"{text.seconds(whole['seconds_before'])} before, {text.seconds(whole['seconds_after'])} after",
        ),
    ]
    if whole["held_out"] is not None:
        figures.insert(1, KeyFigure(percent(whole["held_out"]), "on inputs held out"))
    return Page(
        f"Linear attention in {record['model']}",
        f"`{record['subject']}`: {plain(text.title(record)).partition(', ')[2]}.",
        [Callout("note", plain(f"{text.verdict(record)}.")), KeyFigures(figures)],
        sections,
    )


def _errors(record: Record) -> Table:
    columns = [Column(name, "left" if i < _LEFT else "right") for i, name in enumerate(text.COLUMNS)]
    return Table(
        "Each attention exchanged alone",
        columns,
        [[plain(cell) for cell in row] for row in text.rows(record)],
        [
            "▸ is exchanged. Predicted to first order; measured on the same inputs; held out: on inputs that"
            " nothing was fitted to, which say when fitting stops and whether a swap stays; zeroed: with an"
            " output of 0. Faster: the attention alone, against softmax."
        ],
    )


def _mechanisms(record: Record) -> Table:
    rows: list[list[str | Cell]] = []
    for site in record["sites"]:
        for name, speed in site["speeds"].items():
            error, local = site["predicted"].get(name), site["local"].get(name)
            crossover = speed["crossover"]
            rows.append(
                [
                    plain(site["site"]),
                    name,
                    Cell("" if crossover is None else f"{crossover:,}", crossover),
                    Cell("" if speed["ratio"] is None else f"{speed['ratio']:.2f}", speed["ratio"]),
                    Cell(percent(local), local),
                    Cell(percent(error), error),
                ]
            )
    return Table(
        "Every mechanism at every attention",
        [
            Column("attention"),
            Column("mechanism"),
            *(
                Column(name, "right")
                for name in ("pays from", "times as fast", "error here", "of the output")
            ),
        ],
        rows,
        [
            "The error here is that of the attention's own output; that of the model's output is predicted from it."
        ],
    )
