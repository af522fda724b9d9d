"""The page of an inspection of vectors: figures and tables. Draws the record, computes nothing of the vectors."""

from __future__ import annotations

from collections.abc import Sequence
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
    Text,
)
from layerlab.lab.report.race import environment_section
from layerlab.lab.report.words import plain
from layerlab.projection.inspection import text
from layerlab.projection.inspection.text import Record


def inspection_page(run: RunFolder) -> Page:
    """The page of one inspection, drawn from its record."""
    record: Record = run.meta["results"]
    sections = [
        Section("Cosines", "cosines", [_histogram(record), _tail(record)]),
        Section("Nearest pairs", "nearest", [_nearest(record)]),
        Section("Bounds", "bounds", [_facts(record)]),
        Section("What else there is", "constructions", _constructions(record)),
        environment_section(run.meta),
    ]
    first, *others = [_sentence(words) for words in record["findings"]]
    return Page(
        f"Vectors of {record['file']}",
        plain(text.inspection_title(record)),
        [
            Callout("measured", first),
            KeyFigures(_key_figures(record)),
            *([Bullets(others)] if others else []),
        ],
        sections,
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _key_figures(record: Record) -> list[KeyFigure]:
    floor = record["floors"][0]
    near = record["nearest"][0]
    found = [
        KeyFigure(
            text.number(record["coherence"]), "coherence", f"vectors {near['first']:,} and {near['second']:,}"
        )
    ]
    if floor["value"] > 0:
        found.append(KeyFigure(text.number(floor["value"]), "floor", floor["name"]))
    found.append(
        KeyFigure(text.number(record["random_coherence"]), "random vectors", "typical of as many of them")
    )
    if record["better"]:
        best = record["better"][0]
        found.append(KeyFigure(text.number(best["coherence"]), "possible", best["construction"]))
    return found


def _curve(label: str, x: list[float], values: Sequence[float | None]) -> dict[str, Any]:
    return {"label": label, "x": x, "mean": values}


def _histogram(record: Record) -> Figure:
    bins = record["histogram"]
    middles = [(a + b) / 2 for a, b in zip(bins["edges"][:-1], bins["edges"][1:], strict=True)]
    total = record["measured_pairs"]

    def shares(pairs: list[float]) -> list[float]:
        return [100 * value / total for value in pairs]

    what = "cosine" if record["field"] == "real" else "absolute value of the cosine"
    return charts.line_chart(
        [
            _curve("these vectors", middles, shares(bins["pairs"])),
            _curve("random vectors", middles, shares(bins["random_pairs"])),
        ],
        "share of pairs, per cent",
        xlabel=what,
        title="Cosines of all pairs",
        caption=f"{record['measured_pairs']:,} pairs in {len(middles)} bins, and as many pairs of independent random "
        f"{_random_of(record)}.",
        decimals=3,
    )


def _tail(record: Record) -> Figure:
    bins = record["histogram"]
    marks = (
        [{"label": "floor", "x": record["floors"][0]["value"]}] if record["floors"][0]["value"] > 0 else []
    )
    marks.append({"label": "coherence", "x": record["coherence"]})
    return charts.line_chart(
        [
            _curve("these vectors", bins["tail_cosines"], bins["tail_pairs"]),
            # Below a tenth of a pair there is nothing to expect.
            _curve(
                "random vectors",
                bins["tail_cosines"],
                [value if value >= 0.1 else None for value in bins["tail_random_pairs"]],
            ),
        ],
        "pairs at least so near",
        xlabel="absolute value of the cosine",
        title="Near pairs",
        caption="Where the curve of random vectors meets 1, they have their nearest pair; a codebook that is better "
        "than random ends to the left of that.",
        decimals=2,
        scale="log",
        marks=marks,
    )


def _random_of(record: Record) -> str:
    return "signs" if record["exact"] else "lines (a Beta distribution)"


def _nearest(record: Record) -> Table:
    return Table(
        "The pairs with the largest absolute cosine; vectors are counted from 0.",
        [
            Column("first", "right"),
            Column("second", "right"),
            Column("cosine", "right"),
            Column("degrees", "right"),
        ],
        [
            [
                Cell(row[0], pair["first"]),
                Cell(row[1], pair["second"]),
                Cell(row[2], pair["cosine"]),
                Cell(row[3], -abs(pair["cosine"])),
            ]
            for row, pair in zip(text.nearest_rows(record), record["nearest"], strict=True)
        ],
    )


def _facts(record: Record) -> Table:
    return Table(
        "What was measured, and what bounds say of as many vectors.",
        [Column("what"), Column("value", "right"), Column("what it is")],
        [list(row) for row in text.inspection_rows(record)],
    )


def _constructions(record: Record) -> list[Block]:
    if not record["better"]:
        return [Text("No construction here is sure to have less coherence for as many vectors.")]
    return [
        Table(
            f"Constructions that have {record['count']:,} vectors of dimension {record['dim']:,} with less coherence: "
            "make them with `layerlab codebook make`.",
            [Column("construction"), Column("coherence", "right"), Column("what it is")],
            [
                [o["construction"], Cell(text.number(o["coherence"]), o["coherence"]), o["how"]]
                for o in record["better"]
            ],
        )
    ]
