"""Run the commands of docs/start/*.md and write what they print below them.

A command is a line of a `console` block that begins with "$ "; what follows, up to the next, is its output, standard
error included. A page's commands run one after the other in a folder that holds examples/ and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "start").glob("*.md"))
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
# As wide as a page of the site, and without colour.
TERMINAL = {"COLUMNS": "96", "TERM": "dumb", "NO_COLOR": "1"}


def steps(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that stands below it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """A folder of its own with the examples, a terminal of fixed width."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            ROOT / "examples", Path(folder, "examples"), ignore=shutil.ignore_patterns("__pycache__")
        )
        with mock.patch.dict(os.environ, TERMINAL), contextlib.chdir(folder):
            yield


def output(command: str) -> str:
    """What a command prints. `layerlab` runs in this process; `head FILE` is the other command of these pages."""
    words = shlex.split(command)
    if words[0] == "head":
        return "".join(Path(words[1]).read_text(encoding="utf-8").splitlines(keepends=True)[:10])
    if words[0] != "layerlab":
        raise SystemExit(f"a page runs {words[0]!r}: only layerlab and head are known here")
    from layerlab.cli import main

    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    return "\n".join(line.rstrip() for line in said.getvalue().strip("\n").splitlines()) + "\n"


def renewed(text: str, run: Callable[[str], str]) -> str:
    """The page with every command's output as ``run`` gives it."""

    def block(match: re.Match[str]) -> str:
        return (
            "```console\n" + "".join(f"$ {command}\n{run(command)}" for command, _ in steps(match[1])) + "```"
        )

    return BLOCK.sub(block, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, help="default: all of docs/start")
    for page in parser.parse_args().pages or PAGES:
        text = page.read_text(encoding="utf-8")
        with workplace():
            text = renewed(text, output)
        page.write_text(text, encoding="utf-8")
        print(page.name)


if __name__ == "__main__":
    main()
