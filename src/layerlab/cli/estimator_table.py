"""An inspection of a function in the terminal: facts, a table as wide as the terminal allows, the recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where there is no room for all columns, these go first.
_DISPENSABLE = ("own time", "calls", "z (limit)", "how", "signal/noise", "variance")


def print_inspection(record: Mapping[str, Any]) -> None:
    """Prints what was found: standard output."""
    from rich.text import Text

    from layerlab.cli.output import console, print_table
    from layerlab.estimators.inspection import text

    terminal = console()
    columns = list(text.COLUMNS)
    rows = [text.row(entry, record) for entry in record["estimators"]]
    for name in _DISPENSABLE:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        # Names are broken between words.
        widths[0] = max(len(word) for row in rows for word in row[0].split()) + len("▸ ")
        if sum(widths) + 3 * len(widths) + 1 <= terminal.width:
            break
        at = columns.index(name)
        del columns[at]
        rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    marked = [entry["name"] == record["recommendation"]["name"] for entry in record["estimators"]]
    # With spaces that do not break, only names are broken where there is no room for them.
    print_table(
        text.title(record),
        columns,
        [
            [("▸ " if chosen else "") + row[0], *(cell.replace(" ", "\u00a0") for cell in row[1:])]
            for chosen, row in zip(marked, rows, strict=True)
        ],
    )
    terminal.print(Text(" ".join(text.LEGEND[name] for name in columns if name in text.LEGEND), style="dim"))
    for fact in text.facts(record):
        terminal.print(Text(f"  - {fact}"))
    for remark in record["recommendation"]["remarks"]:
        terminal.print(Text(f"  - {remark}"))
    for note in record["notes"]:
        terminal.print(Text(f"  note: {note}", style="yellow"))
    for why, names in text.refused(record).items():
        terminal.print(Text(f"  left out: {', '.join(names)} ({why})", style="dim"))
    terminal.print(Text(f"{text.verdict(record)}.", style="bold green"))
