"""A run of policies on a page: returns, learning curves, the gradient's variance. Draws records, trains nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.estimators.policy.settings import BASELINES
from layerlab.lab.damage import drawing_from
from layerlab.lab.race import CellResult
from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts, figures
from layerlab.lab.report.page import (
    Block,
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
from layerlab.lab.report.race import environment_section, interval, number
from layerlab.lab.statistics import estimate

_POINTS = 120


def policy_page(run: RunFolder) -> Page:
    """The page of one run, drawn from its records.

    Raises:
        UserError: the run is not finished, or a record is damaged.
    """
    if "results" not in run.meta:
        raise UserError("the run is not finished; run its command again to go on", file=run.path)
    results = run.meta["results"]
    cells = {key: cell for key, cell in run.read_cells().items() if key in results["evaluation"]}
    with drawing_from(run.path, "remove the folder and run again"):
        return _page(run, results, cells)


def _page(run: RunFolder, results: Mapping[str, Any], cells: Mapping[str, CellResult]) -> Page:
    entries = results["contestants"]
    best = max(entries, key=lambda name: entries[name]["mean"])
    lead: list[Block] = [
        KeyFigures(
            [
                KeyFigure(f"{entries[best]['mean']:,.1f}", f"mean return with the baseline {best}"),
                KeyFigure(*_solved(results)),
                KeyFigure(f"{max(results['cell_seconds'].values()):.0f} s", "longest training of a seed"),
                KeyFigure(f"{max(results['steps'].values()):,.0f}", "most environment steps of a seed"),
            ]
        ),
        _strip(results),
    ]
    sections = [
        Section("Standings", "standings", [_standings(results), *_differences(results)]),
        Section(
            "Learning",
            "learning",
            [
                _curve(cells, "return", "mean return of an update's episodes", "Returns against steps"),
                _curve(cells, "entropy", "entropy, nats", "Entropy of the policy against steps"),
            ],
        ),
        Section(
            "Variance of the gradient",
            "variance",
            [
                Text(
                    "The trace of the gradient's covariance, estimated without bias from independent groups of "
                    "episodes. The curve is of the gradient that was followed; policies differ between baselines, so "
                    "the table is the comparison: every baseline on the same batches of the same policy."
                ),
                _curve(cells, "variance", "variance", "Variance of the gradient against steps", log=True),
                *_relative(results),
            ],
        ),
        _settings(run),
        environment_section(run.meta),
    ]
    sampled = next(iter(results["evaluation"].values()))["sampled"]
    episodes = next(iter(results["evaluation"].values()))["n"]
    kind, seeds = "sampled" if sampled else "the most probable", len(results["seeds"])
    return Page(
        f"Policies for {results['environment']}",
        f"REINFORCE; {seeds} seed{'s, each' if seeds > 1 else ','} evaluated in {episodes} fresh episodes with {kind} "
        "actions.",
        lead,
        sections,
    )


def _solved(results: Mapping[str, Any]) -> tuple[str, str]:
    if results["target"] is None:
        return str(len(results["seeds"])), "seeds"
    return (
        f"{sum(results['solved'].values())} of {len(results['evaluation'])}",
        f"trainings with a mean return of {results['target']:g} or more",
    )


def _strip(results: Mapping[str, Any]) -> Figure:
    groups = [
        {"label": name, **{key: entry[key] for key in ("values", "mean", "low", "high")}}
        for name, entry in results["contestants"].items()
    ]
    return figures.accuracy_strip(
        groups,
        xlabel="mean return in fresh episodes",
        caption="One seed: its mean return, without an interval."
        if len(results["seeds"]) == 1
        else "A dot is one seed; below it the mean over seeds with its 95 per cent interval.",
    )


def _standings(results: Mapping[str, Any]) -> Table:
    columns = ("Baseline", "mean return", "sd", "95 % interval", "solved", "steps", "seconds", "ms an update")
    rows: list[list[str | Cell]] = []
    for name, entry in results["contestants"].items():
        keys = [key for key in results["steps"] if key.rpartition("-")[0] == name]
        rows.append(
            [
                name,
                number(entry["mean"], 1),
                number(entry["sd"], 1),
                interval(entry["low"], entry["high"], 1),
                Cell(
                    "–" if results["target"] is None else f"{results['solved'][name]} of {entry['n']}",
                    results["solved"][name],
                ),
                _counted(float(np.mean([results["steps"][key] for key in keys]))),
                number(float(np.mean([results["cell_seconds"][key] for key in keys])), 1),
                number(1e3 * entry["step_seconds"], 1),
            ]
        )
    return Table(
        "Returns in fresh episodes, over seeds; steps and seconds are means over seeds",
        [Column(name, "right" if position else "left") for position, name in enumerate(columns)],
        rows,
    )


def _counted(value: float) -> Cell:
    return Cell(f"{value:,.0f}", value)


def _differences(results: Mapping[str, Any]) -> list[Block]:
    pairs = [pair for pair in results["differences"] if pair["n"] > 1]
    if not pairs:
        return []
    drawn = [{**pair, "label": f"{pair['left']} − {pair['right']}"} for pair in pairs]
    return [
        figures.paired_differences(
            drawn,
            "difference in mean return",
            caption="Same seeds: mean paired difference with its 95 per cent interval; hollow where it holds zero.",
        )
    ]


def _curve(
    cells: Mapping[str, CellResult], name: str, label: str, title: str, *, log: bool = False
) -> Figure:
    """Means over seeds on a common grid of steps, each seed's curve read between its updates."""
    known = [value for cell in cells.values() for value in cell["curves"][name] if value is not None]
    # On a logarithmic scale rounding noise would take all the room: the variance of a batch of equal returns is 0.
    least = 1e-12 * max(known, default=0.0) if log else -math.inf
    runs: dict[str, list[tuple[Sequence[float], Sequence[float]]]] = {}
    for cell in cells.values():
        pairs = [
            (step, value)
            for step, value in zip(cell["curves"]["steps"], cell["curves"][name], strict=True)
            if value is not None and value > least
        ]
        if pairs:
            steps, values = ([float(pair[side]) for pair in pairs] for side in (0, 1))
            values = [math.log(value) for value in values] if log else values
            runs.setdefault(cell["contestant"], []).append((steps, values))
    drawn = []
    for contestant, curves in runs.items():
        first = max(steps[0] for steps, _ in curves)
        # Ends where half of the seeds have ended: never the mean of a few survivors.
        last = sorted(steps[-1] for steps, _ in curves)[(len(curves) - 1) // 2]
        grid = np.linspace(first, max(first, last), _POINTS)
        points = [
            estimate(
                [float(np.interp(x, steps, values)) for steps, values in curves if steps[-1] >= x]
                or [float(curves[0][1][-1])]
            )
            for x in grid
        ]
        back = math.exp if log else float
        drawn.append(
            {
                "label": contestant,
                "x": grid.tolist(),
                "mean": [back(point.mean) for point in points],
                **(
                    {
                        "low": [back(point.mean if point.n == 1 else point.low) for point in points],
                        "high": [back(point.mean if point.n == 1 else point.high) for point in points],
                    }
                    if len(curves) > 1
                    else {}
                ),
            }
        )
    return charts.line_chart(
        drawn,
        label,
        xlabel="environment steps",
        title=title,
        caption="One seed a curve."
        if max(map(len, runs.values()), default=1) == 1
        else "Mean over seeds with its 95 per cent interval; a curve ends where half of its seeds have ended."
        + (" The mean is geometric." if log else ""),
        scale="log" if log else "linear",
    )


def _relative(results: Mapping[str, Any]) -> list[Block]:
    found = results["relative_variance"]
    names = [name for name in BASELINES if any(name in row for row in found.values())]
    if not names:
        return []
    rows: list[list[str | Cell]] = [
        [trained, *(number(row.get(name, math.nan), 3) for name in names)] for trained, row in found.items()
    ]
    return [
        Table(
            "Variance of the gradient with each baseline over that with none, on the same batches (medians)",
            [Column("Policy trained with"), *(Column(name, "right") for name in names)],
            rows,
        )
    ]


def _settings(run: RunFolder) -> Section:
    items = {**run.meta["config"]["environment"], **run.meta["config"]["settings"]}
    table = Table(
        "Settings",
        [Column("setting"), Column("value", "right")],
        [[str(name), f"{value:,}" if type(value) is int else str(value)] for name, value in items.items()],
    )
    return Section("Settings", "settings", [table])
