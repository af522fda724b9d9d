"""What every page of a benchmark is made of: where it was measured, the goals, and the parts that were measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench_common import words
from layerlab.lab.files import write_atomic


def circumstances(
    parts: dict[str, Any], packages: tuple[str, ...] = (), threads: str = "threads for both sides"
) -> str:
    """On what each part was measured: one line an environment, with the parts and the load before each.

    Args:
        parts: by name, with what `bench_common.store.circumstances` put into them.
        packages: whose versions are told, between torch's and layerlab's.
        threads: what the number of threads is.

    >>> around = {"cpu": "C", "cores": 2, "threads": 2, "python": "3.11", "torch": "2.13", "layerlab": "0.1"}
    >>> circumstances({"gate": {"environment": around, "load_before": 0.25}})
    'Measured on: C, 2 cores, 2 threads for both sides; Python 3.11, torch 2.13, layerlab 0.1 (gate at load 0.2).'
    """
    lines: dict[str, list[str]] = {}
    for name, part in parts.items():
        e = part["environment"]
        versions = ", ".join(f"{package} {e[package]}" for package in ("torch", *packages, "layerlab"))
        line = f"{e['cpu']}, {e['cores']} cores, {e['threads']} {threads}; Python {e['python']}, {versions}"
        lines.setdefault(line, []).append(f"{name} at load {part['load_before'] or 0:.1f}")
    return "\n".join(f"Measured on: {line} ({', '.join(names)})." for line, names in lines.items())


class Goals:
    """The table of what was to be reached beside what was measured."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def add(self, work: str, goal: str, measured: str, reached: bool) -> None:
        """One row."""
        self.rows.append([work, goal, measured, "yes" if reached else "**no**"])

    def table(self) -> str:
        """Markdown; empty where there are no rows."""
        return words.table(["work", "goal", "measured", "reached"], self.rows) if self.rows else ""


def of_parts(
    parts: dict[str, Any], sections: Iterable[tuple[str, Callable[[dict[str, Any]], str]]]
) -> list[str]:
    """The sections of those parts that were measured, in the order in which they are named."""
    return [section(parts[name]) for name, section in sections if name in parts]


def page(head: str, stored: dict[str, Any], where: str, goals: str, *sections: str) -> str:
    """A benchmark's page in Markdown.

    Args:
        head: title and what is told first.
        stored: what `bench_common.store.read` returns.
        where: what `circumstances` returns.
        goals: their table; empty where there is none.
        sections: what follows; empty ones are left out.

    >>> print(page("# Speed", {"quick": True}, "Measured on: C.", "", "## Forward"))
    # Speed
    <BLANKLINE>
    **A smoke run at small sizes: these figures mean nothing.**
    <BLANKLINE>
    Measured on: C.
    <BLANKLINE>
    ## Forward
    <BLANKLINE>
    """
    smoke = "**A smoke run at small sizes: these figures mean nothing.**" if stored["quick"] else ""
    table = f"## Goals\n\n{goals}" if goals else ""
    return "\n\n".join(part for part in (head.rstrip(), smoke, where, table, *sections) if part) + "\n"


def write_page(folder: Path, name: str, text: str, figures: Mapping[str, str] | None = None) -> None:
    """Write ``NAME.md`` into a folder, and the figures, SVG by name, into its ``images``."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure, svg in (figures or {}).items():
        (folder / "images").mkdir(exist_ok=True)
        write_atomic(folder / "images" / f"{figure}.svg", svg.encode())
    write_atomic(folder / f"{name}.md", text.encode())
