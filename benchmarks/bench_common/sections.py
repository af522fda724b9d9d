"""What every page of a benchmark begins with: where it was measured, and the goals."""

from __future__ import annotations

from typing import Any

from bench_common import words


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
