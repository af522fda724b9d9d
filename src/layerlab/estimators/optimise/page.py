"""An optimisation in words and on a page. Draws the record, computes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from layerlab.lab.records import RunFolder
from layerlab.lab.report.charts import line_chart
from layerlab.lab.report.page import Bullets, Definitions, Figure, KeyFigure, KeyFigures, Page, Section
from layerlab.lab.report.race import environment_section
from layerlab.lab.report.words import plain

Record = dict[str, Any]

_SHOWN = 80  # characters of a sample
_POINTS = 400


def facts(record: Record) -> list[tuple[str, str]]:
    """What came out, as pairs of a name and words."""
    best, estimator, counts = record["best"], record["estimator"], record["counts"]
    goal = "largest" if record["settings"]["maximise"] else "smallest"
    mean = f", the mean of {best['values']} values" if best["values"] > 1 else ""
    found = [
        (
            f"{goal} value",
            f"{best['value']:.10g}{mean}" + (" (proved: nothing is left)" if record["exhausted"] else ""),
        ),
        ("sample", sample_text(best["sample"])),
        ("evaluations", f"{record['evaluations']:,}; {record['stopped']}"),
        ("from memory", f"{counts['repeats']:,} samples that came again"),
        ("estimator", f"{estimator['name']}: {estimator['why']}"),
        (
            "climbs",
            (
                "rank utilities (biased)"
                if estimator["fitness"] == "rank"
                else "values in units of their spread"
            )
            + (", natural gradient" if estimator["natural"] else ", plain gradient with Adam"),
        ),
        ("restarts", str(len(record["restarts"]))),
    ]
    if counts["failed"]:
        found.append(("failed", f"{counts['failed']:,} evaluations, counted as the worst value"))
    return found


def sample_text(sample: list[Any]) -> str:
    """A sample to read; a long one is cut.

    >>> sample_text([0, 1, 1]), sample_text([0.5, -1.25])
    ('0 1 1', '0.5 -1.25')
    """
    text = " ".join(f"{number:.6g}" for number in sample)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rsplit(' ', 1)[0]} ... ({len(sample)} numbers)"


def optimum_page(run: RunFolder) -> Page:
    """The page of a finished optimisation, drawn from its record."""
    record: Record = run.meta["results"]
    config = run.meta["config"]
    best = record["best"]
    figures = [
        KeyFigure(
            f"{best['value']:.6g}", "largest value" if record["settings"]["maximise"] else "smallest value"
        ),
        KeyFigure(f"{record['evaluations']:,}", "evaluations", record["stopped"]),
        KeyFigure(str(len(record["restarts"])), "restarts"),
    ]
    sections = [
        Section("Course", "course", [_course(record)]),
        Section("Result", "result", [Definitions(facts(record)), *_remarks(record)]),
        environment_section(run.meta),
    ]
    return Page(
        f"Optimisation of {config['function']} ({run.path.name})",
        f"`{config['function']}` on {config['space']}.",
        [KeyFigures(figures)],
        sections,
    )


def _remarks(record: Record) -> list[Bullets]:
    return [Bullets([plain(remark) for remark in record["remarks"]])] if record["remarks"] else []


def _course(record: Record) -> Figure:
    steps = _steps(record["trajectory"], record["evaluations"])
    every = max(1, len(record["batches"]) // _POINTS)
    batches = record["batches"][::every]
    curves = [{"label": "best so far", "x": [x for x, _ in steps], "mean": [y for _, y in steps]}]
    if batches:
        curves.append(
            {"label": "mean of a batch", "x": [b[0] for b in batches], "mean": [b[1] for b in batches]}
        )
    return line_chart(
        curves,
        "value of f",
        xlabel="evaluations",
        title="Best value so far",
        caption="The best value so far, and the mean of each batch: it falls where an ascent begins anew.",
        decimals=3,
    )


def _steps(trajectory: list[list[float]], evaluations: int) -> list[list[float]]:
    """The best so far as a staircase up to the last evaluation."""
    corners = [trajectory[0]]
    for (_, before), (at, value) in pairwise(trajectory):
        corners += [[at, before], [at, value]]
    return [*corners, [evaluations, trajectory[-1][1]]]
