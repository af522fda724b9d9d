"""Write docs/cli.md from the commands themselves, so that it cannot fall behind them (a test compares)."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from layerlab.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """\
# The command line

<!-- Written by scripts/build_cli_docs.py (make docs): do not edit. -->

Results go to standard output, remarks and progress to standard error. Exit status: 0 when all went well,
1 when a check came out otherwise than expected or whoever read the output went away (`| head -1`), 2 for
wrong input (one line on standard error says what was wrong and how to mend it), 130 after Ctrl-C.
`python -m layerlab` is the same command.
"""


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The command itself, then those below it, depth first in the order of ``--help``."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, (*path, name))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value == () or value == [] or callable(value) or getattr(parameter, "is_flag", False):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _arguments(command: Any) -> list[Any]:
    return [entry for entry in command.params if entry.param_type_name == "argument"]


def _options(command: Any) -> list[Any]:
    return [entry for entry in command.params if entry.param_type_name == "option" and not entry.hidden]


def _usage(path: tuple[str, ...], command: Any) -> str:
    words = [*path]
    if _options(command):
        words.append("[OPTIONS]")
    for entry in _arguments(command):
        name = (entry.metavar or entry.name).upper().removesuffix("...").strip("[]")
        word = f"{name}..." if entry.nargs == -1 else name
        words.append(word if entry.required else f"[{word}]")
    if hasattr(command, "commands"):
        words.append("COMMAND")
    return " ".join(words)


def _option_names(entry: Any) -> str:
    names = " / ".join(f"`{name}`" for name in [*entry.opts, *entry.secondary_opts])
    if entry.is_flag:
        return names
    return f"{names} {(entry.metavar or entry.name).upper()}"


def _plain(text: str) -> str:
    """Help without what keeps the terminal from taking a bracket for markup."""
    return text.replace("\\[", "[")


def section(path: tuple[str, ...], command: Any) -> str:
    """One command as Markdown."""
    # Help texts may hold a form feed (what stands behind it is not shown) and the paragraphs of a docstring.
    text = _plain(inspect.cleandoc((command.help or "").partition("\f")[0]).replace("\b\n", ""))
    lines = [
        f"{'#' * (len(path) + 1)} {' '.join(path)}",
        "",
        "```",
        _usage(path, command),
        "```",
        "",
        text,
        "",
    ]
    if _arguments(command):
        lines += ["| argument | default | |", "|---|---|---|"]
        lines += [
            f"| `{entry.name.upper()}` | {_default(entry)} | {_cell(_plain(entry.help or ''))} |"
            for entry in _arguments(command)
        ]
        lines.append("")
    if _options(command):
        lines += ["| option | default | |", "|---|---|---|"]
        lines += [
            f"| {_cell(_option_names(entry))} | {_default(entry)} | {_cell(_plain(entry.help or ''))} |"
            for entry in _options(command)
        ]
        lines.append("")
    if command.epilog:
        example = command.epilog.strip()
        if example.startswith("Example: "):
            lines += ["Example:", "", "```sh", example.removeprefix("Example: "), "```", ""]
        else:
            lines += [example, ""]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    parts = [HEAD, *(section(path, command) for path, command in commands(root, ("layerlab",)))]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--check", action="store_true", help="write nothing; status 1 when the page is out of date"
    )
    text = page()
    if arguments.parse_args().check:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit("docs/cli.md is out of date: run `make docs`")
        return
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")


if __name__ == "__main__":
    main()
