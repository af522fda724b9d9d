"""The pages name only commands, options, targets and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .loading import program

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "benchmarks", "examples") for page in (ROOT / folder).rglob("*.md")),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def shell_commands(text: str) -> list[list[str]]:
    """The lines of the shell blocks of a page, as words; a trailing backslash continues a line."""
    found = []
    for language, block in FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    found.append(words)
    return found


def complaints(words: list[str], command: Any) -> list[str]:
    """What is wrong with a `layerlab` command line, seen from the commands that exist."""
    found = []
    words = words[1:]
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return [f"no command {words[0]!r}"]
        command, words = command.commands[words[0]], words[1:]
    options = {"--help": True, "-h": True}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            options |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], bool(parameter.is_flag))
    positional = 0
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word in (">", "|", "&&"):
            break
        if not word.startswith("-"):
            positional += 1
            continue
        name, equals, _ = word.partition("=")
        if name not in options:
            found.append(f"no option {name}")
        elif not options[name] and not equals:
            position += 1
    arguments = [entry for entry in command.params if entry.param_type_name == "argument"]
    if not {"--help", "-h", "--version"} & set(words):
        fewest = sum(1 for entry in arguments if entry.required)
        most = float("inf") if any(entry.nargs == -1 for entry in arguments) else len(arguments)
        if not fewest <= positional <= most:
            found.append(f"{positional} arguments, expected {fewest} to {most}")
        if hasattr(command, "commands"):
            found.append("a group of commands, not a command")
    return found


@pytest.fixture(scope="module")
def root_command() -> Any:
    import typer.main

    from layerlab.cli import app

    return typer.main.get_command(app)


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return program("scripts/build_cli_docs.py")


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    assert phony is not None
    return set(phony.group(1).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_the_page_exist(page: Path, root_command: Any) -> None:
    for words in shell_commands(page.read_text(encoding="utf-8")):
        line = " ".join(words)
        program = Path(words[0]).name
        if program == "layerlab":
            assert complaints(words, root_command) == [], line
        elif words[:3] == ["python", "-m", "layerlab"]:
            assert complaints(words[2:], root_command) == [], line
        elif program == "make":
            asked = words[1 : words.index("&&")] if "&&" in words else words[1:]
            assert {word for word in asked if "=" not in word} <= targets(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith(("#", "mailto:")):
            continue
        assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_the_readme_starts_with_the_two_commands() -> None:
    assert shell_commands((ROOT / "README.md").read_text(encoding="utf-8"))[:2] == [
        ["make", "reproduce"],
        ["make", "test"],
    ]


def test_the_python_of_the_readme_runs() -> None:
    blocks = [
        block
        for language, block in FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
        if language == "python"
    ]
    assert blocks
    for block in blocks:
        names: dict[str, Any] = {}
        exec(compile(block, "README.md", "exec"), names)
        assert tuple(names["out"].shape) == (4, 2)


def test_the_python_of_the_page_on_attention_runs() -> None:
    page = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = [block for language, block in FENCE.findall(page) if language == "python"]
    assert len(blocks) > 2
    for block in blocks:
        exec(compile(block, "attention.md", "exec"), names)
    assert tuple(names["out"].shape) == (2, 100, 64)


@pytest.mark.parametrize(
    "line",
    [
        "layerlab graph fly cora",
        "layerlab data list --yaml",
        "layerlab data get",
        "layerlab data get citeseer pubmed",
        "layerlab graph",
    ],
)
def test_a_wrong_command_is_found(line: str, root_command: Any) -> None:
    assert len(complaints(line.split(), root_command)) == 1


def test_the_page_of_commands_is_current(builder: ModuleType) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == builder.page(), "run `make docs`"


def test_every_command_gives_an_example(builder: ModuleType, root_command: Any) -> None:
    for path, command in builder.commands(root_command, ("layerlab",)):
        if not hasattr(command, "commands"):
            name = " ".join(path)
            assert (command.epilog or "").startswith(f"Example: {name}"), name
            example = command.epilog.removeprefix("Example: ").splitlines()[0]
            assert complaints(shlex.split(example), root_command) == [], example


def test_the_decisions_are_all_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert pages
    assert pages == set(re.findall(r"\((0\d{3}-[\w-]+\.md)\)", index))
