"""The one error that a user is meant to read.

Everything that a user can get wrong (a file, an argument, a value) is raised as `UserError`: one line that
says what was expected, what came, where, and what to do. The command line prints that line and exits with
status 2; a library user catches it as a `ValueError`.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

_LONGEST = 900


def printable(text: str) -> str:
    r"""The text with what a terminal would obey, or not show, written out: control characters, lone surrogates.

    Spaces of any width stay.

    >>> print(printable("\x1b[31mred\x00 é 1\u00a0%"))
    \x1b[31mred\x00 é 1 %
    """
    if text.isprintable():
        return text
    return "".join(map(_written, text))


def printable_lines(text: str) -> str:
    r"""As `printable`, but ends of lines and tabs stay.

    >>> printable_lines("a\tb\n\x1bc")
    'a\tb\n\\x1bc'
    """
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


def _written(letter: str) -> str:
    shown = letter.isprintable() or unicodedata.category(letter) == "Zs"
    return letter if shown else letter.encode("unicode_escape").decode()


def _shortened(text: str, longest: int) -> str:
    """One line for a person, though a file's cell of a million digits is quoted: its beginning, and the mend."""
    return text if len(text) <= longest else f"{text[: longest - 300]} [...] {text[-280:]}"


class UserError(ValueError):
    """Bad input. ``str(error)`` is a single line that names the mend.

    Args:
        message: what was expected, what came, and what to do.
        file: the file in which it was found, if there is one.
        line: the 1-based line of that file, if there is one.
        longest: characters; of what has more the middle is left out.

    >>> str(UserError("expected a number, got 'abc'", file="nodes.csv", line=3))
    "nodes.csv:3: expected a number, got 'abc'"
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        longest: int = _LONGEST,
    ) -> None:
        where = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(_shortened(printable(" ".join(f"{where}{message}".split())), longest))
        self.file = None if file is None else str(file)
        self.line = line
