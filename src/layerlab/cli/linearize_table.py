"""A linearization in the terminal: a table, remarks, the verdict, and how to use what was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where there is no room for all columns, or nothing in them, these go first.
_DISPENSABLE = ("tokens", "faster", "held out", "by")


def print_linearization(record: Mapping[str, Any]) -> None:
    """Prints what was found: standard output."""
    from rich.text import Text

    from layerlab.attention.linearize import text
    from layerlab.cli.output import console, print_table

    terminal = console()
    columns, rows = list(text.COLUMNS), text.rows(record)
    for name in _DISPENSABLE:
        at = columns.index(name)
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        if sum(widths) + 3 * len(widths) + 1 > terminal.width or not any(row[at] for row in rows):
            del columns[at]
            rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    # With spaces that do not break, only names are broken where there is no room for them.
    print_table(text.title(record), columns, [[cell.replace(" ", "\u00a0") for cell in row] for row in rows])
    terminal.print(
        Text(
            "▸ is exchanged. Relative errors of the model's output, each attention alone; zeroed: with an output of 0.",
            style="dim",
        )
    )
    for remark in text.remarks(record):
        terminal.print(Text(f"  - {remark}"))
    colour = "red" if record["refused"] is not None else "green"
    terminal.print(Text(f"{text.verdict(record)}.", style=f"bold {colour}"))
    if "usage" in record:
        terminal.print(Text(f"\n{record['usage']}"))
