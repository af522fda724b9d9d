"""What a chapter of the reproduction is asked and what it gives back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from layerlab.lab.race import CellResult, Workers
from layerlab.lab.report.page import Block, KeyFigure, Section
from layerlab.reproduce.verdicts import Verdict

Report = Callable[[str, CellResult], None]
"""Called with the title of a step and each of its cells."""


@dataclass(frozen=True)
class Step:
    """One race of the plan.

    Args:
        title: of the step.
        seconds: contestant -> what one of its cells takes on one core, about; for the time left.
        seeds: how many every contestant runs.
    """

    title: str
    seconds: Mapping[str, float]
    seeds: int

    @property
    def total(self) -> float:
        """Seconds of all cells on one core."""
        return self.seeds * sum(self.seconds.values())


class Display(Protocol):
    """Shows the progress of the whole plan."""

    def plan(self, steps: Sequence[Step], jobs: int) -> AbstractContextManager[Report]:
        """A context whose value is told every finished cell."""


@dataclass(frozen=True)
class Amount:
    """How much is run.

    Args:
        seeds: of the experiments on graphs.
        trainings: seeds of the race of skip connections, whose cells take the longest.
        arms: of that race.
        full: whether the claims that sample take more samples.
        papers: seeds of graphs by the papers' protocol, which takes longer; None: as many as ``seeds``.
        small: whether the networks of that race are trained for fewer epochs.
    """

    seeds: int
    trainings: int
    arms: tuple[str, ...] = ("on", "off", "zero")
    full: bool = False
    papers: int | None = None
    small: bool = False


@dataclass(frozen=True)
class Options:
    """What is run, where and by whom. The amount is fixed before anything runs.

    Args:
        out: the folder of the reproduction.
        amount: how much.
        workers: the processes that run it.
        report: told every finished cell.
        claim_seed: seed of the claims' random subjects.
    """

    out: Path
    amount: Amount
    workers: Workers
    report: Report
    claim_seed: int = 0

    def told(self, title: str) -> Callable[[CellResult], None]:
        """What a race calls with its cells."""
        return functools.partial(self.report, title)


@dataclass(frozen=True)
class Finding:
    """One row of the story: a statement or a figure of the documents, beside what was measured.

    Args:
        id: as in the register of claims.
        question: what is asked.
        document: what the document (or the paper) says.
        measured: what came out here.
        verdict: see `layerlab.reproduce.verdicts`.
        command: runs just this row again.
        detail: the numbers behind it, as JSON.
    """

    id: str
    question: str
    document: str
    measured: str
    verdict: Verdict
    command: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class ChapterResult:
    """The experiments of a chapter: findings for machines, blocks for the page.

    ``errata``: what the documents print wrongly about them, as blocks for the chapter of errata.
    """

    findings: list[Finding]
    key_figures: list[KeyFigure]
    story: list[Block]
    sections: list[Section]
    errata: list[Block] = field(default_factory=list)
