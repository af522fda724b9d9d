"""What every command shares in the way it prints: results on standard output, all talk on standard error.

All that commands print goes through here, where what a terminal would obey is written out: a name in a stranger's file
must not reach the terminal as a command to it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from layerlab.errors import UserError, printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console


def fail(message: str) -> NoReturn:
    """Print ``error: message`` on standard error and exit with status 2."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def say(message: str) -> None:
    """A remark for the person: standard error, so that standard output stays parseable."""
    print(printable_lines(message), file=sys.stderr)  # noqa: T201


def answer(line: str = "") -> None:
    """A line of the result: standard output, not broken to the terminal's width."""
    with writing():
        print(printable_lines(line), flush=True)  # noqa: T201


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Around what writes to standard output: that it cannot be written is a user's error, as of any file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise UserError(
            f"standard output cannot be written ({error.strerror or error}); free space, or send it elsewhere"
        ) from error


def drop_output() -> None:
    """Let standard output go nowhere: the interpreter would try to flush what is left of it, once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console(*, stderr: bool = False) -> Console:
    """Where tables, colours and bars go; made anew, as standard output may have been redirected since."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Printable(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            with writing():
                super().print(*objects, **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else printable_lines(text), style, control)

    return Printable(stderr=stderr)


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
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    # JSON itself escapes only the first 32 control characters.
    with writing():
        print("\n".join(map(_escaped, text.split("\n"))), flush=True)  # noqa: T201


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(letter if printable(letter) == letter else json.dumps(letter)[1:-1] for letter in line)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table on standard output; the first ``left`` columns are text, the others numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", overflow="fold")
    for row in rows:
        # Text: a bracket in a user's name is no markup.
        # Written out before the table is as wide as its cells.
        table.add_row(*(Text(printable_lines(cell)) for cell in row))
    terminal = console()
    # Above the table and not its title, which would be broken to the table's width.
    terminal.print(Text(title, style="bold"))
    terminal.print(table)
