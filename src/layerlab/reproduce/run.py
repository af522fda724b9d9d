"""Run chapters and write the page. Every experiment is a run folder of its own, so a killed reproduction goes on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.records import create_run, environment
from layerlab.lab.report.page import KeyFigures, Page, Section, write
from layerlab.lab.report.race import environment_section
from layerlab.reproduce.chapter import ChapterResult, Display, Options

# Chapter -> module with a function `chapter`; imported when it is run.
CHAPTERS = {"graph": "layerlab.reproduce.graph"}
DOCUMENTS = "CSC413, winter 2022: homework 4 and the solutions of assignment 4"
SEEDS = 20
QUICK_SEEDS = 3


def reproduce(
    out: Path,
    *,
    display: Display,
    only: Sequence[str] = (),
    seeds: int = SEEDS,
    jobs: int | None = None,
    command: Sequence[str] = (),
    on_chapter: Callable[[str], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run the documents' experiments and claims, and write ``report.html``.

    Args:
        out: the folder; what is there already from an earlier call is kept and not run again.
        display: shows the progress of a race.
        only: chapters to run; all when empty.
        seeds: repetitions of every experiment, at least 2.
        jobs: processes; the number of cores when None.
        command: what was typed, for the record.
        on_chapter: called with the name of each chapter before it runs.

    Returns:
        The page's path, and the summary as JSON: ``{"chapters", "seeds", "findings", "hold", "refuted", "of"}``.

    Raises:
        UserError: an unknown chapter, too few seeds, or a folder that holds something else.
    """
    names = list(only) or list(CHAPTERS)
    if unknown := [name for name in names if name not in CHAPTERS]:
        raise UserError(f"unknown chapter {unknown[0]!r}; expected one of {', '.join(CHAPTERS)}")
    if seeds < 2:
        raise UserError(f"expected at least 2 seeds, got {seeds}: one run has no spread to compare with")
    # Neither chapters nor seeds: a quick look is widened to the whole in the same folder, its cells kept.
    run = create_run(out, "reproduce", command, {"documents": DOCUMENTS})
    options = Options(out=run.path, seeds=seeds, jobs=jobs)
    results = {}
    for name in names:
        if on_chapter is not None:
            on_chapter(name)
        results[name] = import_module(CHAPTERS[name]).chapter(options, display)
    findings = [asdict(finding) for result in results.values() for finding in result.findings]
    summary = {
        "chapters": names,
        "seeds": seeds,
        "findings": findings,
        "hold": sum(finding["verdict"] == "holds" for finding in findings),
        "refuted": sum(finding["verdict"] == "refuted" for finding in findings),
        "of": len(findings),
    }
    run.finish(summary)
    made = {"command": shlex.join(command) or run.meta["command"], "environment": environment()}
    page = _page(results, seeds, {**run.meta, **made})
    return write(page, run.path / "report.html"), summary


def _page(results: dict[str, ChapterResult], seeds: int, meta: dict[str, Any]) -> Page:
    lead = [block for result in results.values() for block in (KeyFigures(result.key_figures), *result.story)]
    sections: list[Section] = [section for result in results.values() for section in result.sections]
    return Page(
        "Two course documents, run again",
        f"Section 3, graphs: GCN, GAT and SGC on Cora, {seeds} seeds each, beside what documents and papers say.",
        lead,
        [*sections, environment_section(meta)],
    )
