"""What every command shares in the way it prints: JSON on standard output, all talk on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from layerlab.errors import printable


def fail(message: str) -> NoReturn:
    """Print ``error: message`` on standard error and exit with status 2."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def say(message: str) -> None:
    """A remark for the person: standard error, so that standard output stays parseable."""
    # A name in a file must not reach the terminal as a command to it.
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr)  # noqa: T201


def _finite(value: Any) -> Any:
    # JSON has no NaN and no infinity; null is what every parser accepts in their place.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value


def print_json(value: Any) -> None:
    """Print strict JSON on standard output (NaN and infinities become null)."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table on standard output; the first ``left`` columns are text, the others numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", overflow="fold")
    for row in rows:
        # Text: a bracket in a user's name is no markup.
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in row))
    console = Console()
    # Above the table and not its title, which would be broken to the table's width.
    console.print(Text(title, style="bold"))
    console.print(table)
