"""Run chapters and write the page. Every experiment is a run folder of its own, so a killed reproduction goes on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.machine import available_cores, environment
from layerlab.lab.race import Workers
from layerlab.lab.records import create_run
from layerlab.lab.report.page import (
    Block,
    Cell,
    Column,
    KeyFigures,
    Page,
    Section,
    Table,
)
from layerlab.lab.report.race import environment_section
from layerlab.reproduce import theorems
from layerlab.reproduce.chapter import Amount, ChapterResult, Display, Options, Step
from layerlab.reproduce.formats import check_formats, write_report
from layerlab.reproduce.front import front


@dataclass(frozen=True)
class Chapter:
    """A part of the documents: one domain of the register of claims.

    Args:
        title: as a heading.
        place: where in the documents (HW: homework 4, SOL: solutions of assignment 4).
        experiments: module with the functions `steps` and `chapter`, imported when it is run; None where there are
            theorems only.
    """

    title: str
    place: str
    experiments: str | None = None


# In the order of the documents.
CHAPTERS = {
    "gradflow": Chapter("Gradients through depth and time", "HW 1.1, 1.2; SOL 1.1, 1.2"),
    "attention": Chapter("Efficient attention", "HW 1.3; SOL 1.3, 1.4"),
    "estimators": Chapter("Score-function estimators", "HW 2"),
    "projection": Chapter("Almost orthogonal vectors", "SOL 2.1"),
    "graph": Chapter("Graphs: Laplacians, GCN, GAT and SGC", "HW 3; SOL 3", "layerlab.reproduce.graph"),
    "segmentation": Chapter("U-Net and its skip connections", "SOL 4", "layerlab.reproduce.segmentation"),
}
DOCUMENTS = "CSC413, winter 2022: homework 4 and the solutions of assignment 4"
QUICK = Amount(seeds=5, trainings=1, arms=("on", "off"), papers=3, small=True)
DEFAULT = Amount(seeds=20, trainings=4)
FULL = Amount(seeds=50, trainings=10, arms=("on", "off", "zero", "only-0", "only-1"), full=True)


def reproduce(
    out: Path,
    *,
    display: Display,
    only: Sequence[str] = (),
    amount: Amount = DEFAULT,
    jobs: int | None = None,
    command: Sequence[str] = (),
    formats: Sequence[str] = (),
    on_plan: Callable[[Sequence[Step], int], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run the documents' experiments and claims, and write ``report.html``.

    Args:
        out: the folder; what is there already from an earlier call is kept and not run again.
        display: shows the progress of the whole.
        only: chapters to run; all when empty.
        amount: how much is run.
        jobs: processes; the number of cores when None.
        command: what was typed, for the record.
        formats: of the report, beside HTML: md, json, pdf.
        on_plan: called with the steps and the number of processes before anything runs.

    Returns:
        The page's path, and the summary as JSON: ``{"chapters", "seeds", "parts", "findings",
        "hold", "refuted", "of"}``.

    Raises:
        UserError: an unknown chapter, too few seeds, or a folder that holds something else.
    """
    names = list(only) or list(CHAPTERS)
    if unknown := [name for name in names if name not in CHAPTERS]:
        raise UserError(f"unknown chapter {unknown[0]!r}; expected one of {', '.join(CHAPTERS)}")
    if (fewest := min(amount.seeds, amount.papers or amount.seeds)) < 2:
        raise UserError(f"expected at least 2 seeds, got {fewest}: one run has no spread to compare with")
    check_formats(formats)
    jobs = jobs or available_cores()
    # Neither chapters nor seeds: a quick look is widened to the whole in the same folder, its cells kept.
    run = create_run(out, "reproduce", command, {"documents": DOCUMENTS})
    rooms = {name: import_module(path) for name in names if (path := CHAPTERS[name].experiments)}
    steps = [theorems.step(names, amount)]
    steps += [step for room in rooms.values() for step in room.steps(amount)]
    if on_plan is not None:
        on_plan(steps, jobs)
    results: dict[str, ChapterResult] = {}
    with display.plan(steps, jobs) as report, Workers(jobs) as workers:
        options = Options(run.path, amount, workers, report)
        checks = theorems.check_claims(names, options)
        for name, room in rooms.items():
            results[name] = room.chapter(options)
    by_chapter = {name: [c for c in checks if c.claim.id.startswith(f"{name}.")] for name in names}
    findings = [
        asdict(found)
        for name in names
        for found in (
            *(results[name].findings if name in results else ()),
            *map(theorems.finding, by_chapter[name]),
        )
    ]
    summary = {
        "chapters": names,
        "seeds": amount.seeds,
        "parts": _parts(names, results, by_chapter),
        "findings": findings,
        "hold": sum(finding["verdict"] == "holds" for finding in findings),
        "refuted": sum(finding["verdict"] == "refuted" for finding in findings),
        "of": len(findings),
    }
    run.finish(summary)
    made = {"command": shlex.join(command) or run.meta["command"], "environment": environment()}
    page = _page(names, results, by_chapter, summary, {**run.meta, **made})
    return write_report(page, run.path, summary, formats), summary


def _page(
    names: Sequence[str],
    results: Mapping[str, ChapterResult],
    checks: Mapping[str, Sequence[theorems.CheckedClaim]],
    summary: Mapping[str, Any],
    meta: dict[str, Any],
) -> Page:
    every = [checked for name in names for checked in checks[name]]
    printed = [figure for result in results.values() for figure in result.key_figures]
    lead: list[Block] = [
        *front(summary["findings"], every),
        *([KeyFigures(printed)] if printed else []),
        _table(summary["parts"]),
        *(block for result in results.values() for block in result.story),
    ]
    sections: list[Section] = []
    for name in names:
        if name in results:
            sections += results[name].sections
        sections.append(theorems.section(name, CHAPTERS[name].title, checks[name]))
    wrong = [block for result in results.values() for block in result.errata]
    return Page(
        "Two course documents, run again",
        f"{DOCUMENTS}: every theorem checked, every experiment repeated over several seeds.",
        lead,
        [*sections, *theorems.errata(every, wrong), environment_section(meta)],
    )


def _parts(
    names: Sequence[str],
    results: Mapping[str, ChapterResult],
    checks: Mapping[str, Sequence[theorems.CheckedClaim]],
) -> list[dict[str, Any]]:
    """What came of each chapter, in numbers."""
    return [
        {
            "chapter": name,
            "title": CHAPTERS[name].title,
            "place": CHAPTERS[name].place,
            "hold": sum(checked.holds for checked in checks[name]),
            "printed_wrongly": sum(
                checked.as_expected and checked.claim.expected == "refuted" for checked in checks[name]
            ),
            "figures": len(results[name].findings) if name in results else 0,
            "unexpected": [checked.claim.id for checked in checks[name] if not checked.as_expected],
        }
        for name in names
    ]


def _table(parts: Sequence[Mapping[str, Any]]) -> Table:
    counts = {
        "hold": "claims that hold",
        "printed_wrongly": "printed wrongly",
        "figures": "figures compared",
    }
    rows: list[list[str | Cell]] = [
        [
            f"[{part['title']}](#{part['chapter']}-claims)",
            part["place"],
            *(Cell(str(part[key]), part[key]) for key in counts),
            ", ".join(f"`{claim}`" for claim in part["unexpected"]) or "none",
        ]
        for part in parts
    ]
    return Table(
        "The documents' parts",
        [
            Column("Part"),
            Column("Where"),
            *(Column(heading, "right") for heading in counts.values()),
            Column("unexpected"),
        ],
        rows,
    )
