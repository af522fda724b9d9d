"""A linearization in the terminal: a table, remarks, the verdict, and how to use what was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def print_linearization(record: Mapping[str, Any]) -> None:
    """Prints what was found: standard output."""
    from rich.console import Console
    from rich.text import Text

    from layerlab.attention.linearize import text
    from layerlab.cli.output import print_table

    console = Console()
    columns, rows = list(text.COLUMNS), text.rows(record)
    for name in ("held out", "faster", "by"):
        at = columns.index(name)
        if not any(row[at] for row in rows):
            del columns[at]
            rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    print_table(text.title(record), columns, rows, left=2)
    console.print(
        Text(
            "errors of the model's output, relative, each attention exchanged alone. zeroed: its output 0.",
            style="dim",
        )
    )
    for remark in text.remarks(record):
        console.print(Text(f"  - {remark}"))
    colour = "red" if record["refused"] is not None else "green"
    console.print(Text(f"{text.verdict(record)}.", style=f"bold {colour}"))
    if "usage" in record:
        console.print(Text(f"\n{record['usage']}"))
