"""A race on a page: standings, every seed, paired differences, learning curves. Draws records, trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.race import CellResult, mean_curves
from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts, figures
from layerlab.lab.report.page import (
    Block,
    Cell,
    Code,
    Column,
    Definitions,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)

Labels = Mapping[str, str]


def name_of(contestant: str, labels: Labels | None = None) -> str:
    """How a contestant is written on the page: its label, else its name in capitals."""
    return (labels or {}).get(contestant, contestant.upper())


def number(value: float | None, decimals: int, sign: bool = False) -> Cell:
    """A numeric cell with a proper minus sign; a missing value is a dash."""
    if value is None or value != value:
        return Cell("–")
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    return Cell(text.replace("-", "−"), value)


def interval(low: float | None, high: float | None, decimals: int, sign: bool = False) -> Cell:
    """``low to high`` as one cell, sorted by its lower end."""
    if low is None or high is None or low != low:
        return Cell("–")
    return Cell(f"{number(low, decimals, sign).text} to {number(high, decimals, sign).text}", low)


def percents(entry: Mapping[str, Any]) -> dict[str, float]:
    """mean, sd, low and high of a summary's entry, in per cent; NaN where there is none."""
    return {
        name: float("nan") if entry[name] is None else 100 * entry[name]
        for name in ("mean", "sd", "low", "high")
    }


def strip(
    summary: Mapping[str, Any], reference: Sequence[Mapping[str, Any]] = (), labels: Labels | None = None
) -> Figure:
    """Every seed of every contestant, with mean and interval."""
    part = str(summary["metric"]).split("_")[0]
    groups = []
    for name, entry in summary["contestants"].items():
        numbers = percents(entry)
        # A record's low and high of a single seed are no numbers.
        ends = dict.fromkeys(("low", "high")) if entry["n"] == 1 else {}
        values = [100 * value for value in entry["values"]]
        groups.append({"label": name_of(name, labels), "values": values, **numbers, **ends})
    return figures.accuracy_strip(
        groups,
        reference,
        f"{part} accuracy, per cent",
        caption="A dot is one seed; below it the mean with its 95 per cent interval."
        if any(entry["n"] > 1 for entry in summary["contestants"].values())
        else "One seed each: its value, without an interval.",
    )


def standings(
    summary: Mapping[str, Any],
    labels: Labels | None = None,
    said: tuple[str, Mapping[str, float]] | None = None,
) -> Table:
    """One row a contestant; with ``said``, a column of that name with others' figures of some of them."""
    rows: list[list[str | Cell]] = []
    for name, entry in summary["contestants"].items():
        numbers = percents(entry)
        rows.append(
            [
                name_of(name, labels),
                *([] if said is None else [number(100 * said[1][name], 1) if name in said[1] else Cell("–")]),
                number(numbers["mean"], 2),
                number(numbers["sd"], 2),
                interval(numbers["low"], numbers["high"], 2),
                Cell(f"{entry['parameters']:,}", entry["parameters"]),
                number(1e3 * entry["step_seconds"], 1),
                number(entry["seconds"], 1),
            ]
        )
    part = str(summary["metric"]).split("_")[0]
    columns = (
        "Model",
        *(() if said is None else (said[0],)),
        *("mean", "sd", "95 % interval", "parameters", "ms an epoch", "seconds in all"),
    )
    seeds = next(iter(summary["contestants"].values()))["n"]
    return Table(
        f"{part.capitalize()} accuracy, per cent, over {seeds} seeds",
        [Column(name, "right" if position else "left") for position, name in enumerate(columns)],
        rows,
        [
            "Times are of optimisation steps on one thread (median epoch) and of whole runs, summed over seeds."
        ],
    )


def differences(summary: Mapping[str, Any], labels: Labels | None = None) -> list[Block]:
    """Forest plot and table of the paired differences; nothing for one contestant or one seed."""
    pairs = [
        {
            "label": f"{name_of(pair['left'], labels)} − {name_of(pair['right'], labels)}",
            **percents(pair),
            "n": pair["n"],
            "wins": pair["wins"],
        }
        for pair in summary["differences"]
        if pair["n"] > 1
    ]
    if not pairs:
        return []
    table = Table(
        "Paired differences in points: same split, same seed",
        [Column("Pair"), Column("mean", "right"), Column("95 % interval", "right"), Column("wins", "right")],
        [
            [
                pair["label"],
                number(pair["mean"], 2, sign=True),
                interval(pair["low"], pair["high"], 2, sign=True),
                Cell(f"{pair['wins']} of {pair['n']}", pair["wins"]),
            ]
            for pair in pairs
        ],
    )
    figure = figures.paired_differences(
        pairs, caption="Mean paired difference with its 95 per cent interval; hollow where it holds zero."
    )
    return [figure, table]


def curves(cells: Mapping[str, CellResult], labels: Labels | None = None) -> Figure:
    """Validation accuracy against the epoch."""
    means = mean_curves(cells, "validation_accuracy")
    drawn = [
        {
            "label": name_of(name, labels),
            **{key: values if key == "x" else [100 * v for v in values] for key, values in curve.items()},
        }
        for name, curve in means.items()
    ]
    return charts.line_chart(
        drawn,
        "validation accuracy, per cent",
        title="Learning curves",
        caption="Mean over seeds with its 95 per cent interval; a curve ends where half of its seeds have stopped.",
    )


def cells_of(run: RunFolder, summary: Mapping[str, Any]) -> dict[str, CellResult]:
    """The records that a summary is about; a folder may hold more, from a wider race.

    Raises:
        UserError: a record lacks what the page draws.
    """
    cells = {
        key: cell
        for key, cell in run.read_cells().items()
        if cell.get("contestant") in summary["contestants"] and cell.get("seed") in summary["seeds"]
    }
    for key, cell in cells.items():
        if not isinstance(cell.get("settings"), dict) or not isinstance(cell.get("curves"), dict):
            raise UserError(
                f"the record {key!r} has no settings or no curves; remove it and run the race again",
                file=run.path,
            )
    return cells


def race_page(run: RunFolder) -> Page:
    """The page of one race, drawn from its records.

    Raises:
        UserError: the race is not finished, or a record is damaged.
    """
    if "results" not in run.meta:
        raise UserError("the race is not finished; run its command again to go on", file=run.path)
    results, config = run.meta["results"], run.meta["config"]
    cells = cells_of(run, results)
    best = max(results["contestants"].items(), key=lambda item: item[1]["mean"])
    numbers = percents(best[1])
    lead: list[Block] = [
        KeyFigures(
            [
                KeyFigure(f"{numbers['mean']:.1f} %", f"{name_of(best[0])}, the best mean"),
                KeyFigure(str(len(results["contestants"])), "models"),
                KeyFigure(str(len(results["seeds"])), "seeds each"),
                KeyFigure(
                    f"{sum(e['seconds'] for e in results['contestants'].values()):.0f} s", "of training"
                ),
            ]
        ),
        strip(results),
    ]
    compared = differences(results)
    sections = [Section("Standings", "standings", [standings(results)])]
    if compared:
        sections.append(Section("Differences", "differences", compared))
    sections.append(Section("Training", "training", [curves(cells)]))
    settings = {cell["contestant"]: cell["settings"] for cell in cells.values()}
    sections.append(settings_section(settings))
    sections.append(environment_section(run.meta))
    return Page(
        f"Race on {results['data']}",
        f"Protocol: {config['protocol']}. Every model on the same splits and seeds.",
        lead,
        sections,
    )


def settings_section(settings: Mapping[str, Mapping[str, Any]], labels: Labels | None = None) -> Section:
    """The settings of every contestant, one column each."""
    names = list(settings)
    fields = list(next(iter(settings.values())))
    rows = [
        [field, *(str(settings[name].get(field)) for name in names)] for field in fields if field != "model"
    ]
    table = Table(
        "Settings", [Column("setting"), *(Column(name_of(name, labels), "right") for name in names)], rows
    )
    return Section("Settings", "settings", [table])


def environment_section(meta: Mapping[str, Any]) -> Section:
    """Where and how the numbers were made."""
    items = [(str(key), str(value)) for key, value in meta["environment"].items()]
    return Section(
        "How it was made",
        "environment",
        [
            Code(meta["command"] or "layerlab", "The command"),
            Definitions([*items, ("date", str(meta["created"]))]),
            Text(
                "Times and last digits depend on the machine; on one machine the same seed gives the same bits."
            ),
        ],
    )
