"""What a chapter of the reproduction is asked and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from layerlab.lab.race import CellResult
from layerlab.lab.report.page import Block, KeyFigure, Section

Report = Callable[[CellResult], None]


class Display(Protocol):
    """Shows progress: contexts whose value is called with every finished cell."""

    def race(self, title: str, names: Sequence[str], seeds: int) -> AbstractContextManager[Report]:
        """Of a race of these contestants over so many seeds."""

    def checks(self, title: str, ids: Sequence[str]) -> AbstractContextManager[Report]:
        """Of checks of these claims."""


@dataclass(frozen=True)
class Options:
    """How much is run and where.

    Args:
        out: the folder of the reproduction.
        seeds: repetitions of every experiment, fixed before anything runs.
        jobs: processes; the number of cores when None.
        claim_seed: seed of the claims' random subjects.
    """

    out: Path
    seeds: int
    jobs: int | None = None
    claim_seed: int = 0


@dataclass(frozen=True)
class Finding:
    """One row of the story: a statement or a figure of the documents, beside what was measured.

    Args:
        id: as in the register of claims.
        question: what is asked.
        document: what the document (or the paper) says.
        measured: what came out here.
        verdict: "holds", "refuted" or "measured".
        detail: the numbers behind it, as JSON.
    """

    id: str
    question: str
    document: str
    measured: str
    verdict: Literal["holds", "refuted", "measured"]
    detail: dict[str, Any]


@dataclass(frozen=True)
class ChapterResult:
    """The experiments of a chapter: findings for machines, blocks for the page."""

    findings: list[Finding]
    key_figures: list[KeyFigure]
    story: list[Block]
    sections: list[Section]
