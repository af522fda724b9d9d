"""The pages "five minutes for ..." show what their commands print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from .loading import program
from .printed import difference

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "start").glob("*.md"))


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return program("scripts/run_start_pages.py")


@pytest.fixture
def workplace(runner: ModuleType) -> Iterator[None]:
    with runner.workplace():
        yield


def test_there_is_a_page_for_each_of_the_four() -> None:
    assert [page.stem for page in PAGES] == ["graph", "images", "model", "teacher"]


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_print_what_the_page_shows(page: Path, runner: ModuleType) -> None:
    found = [
        step
        for block in runner.BLOCK.findall(page.read_text(encoding="utf-8"))
        for step in runner.steps(block)
    ]
    assert len(found) >= 2
    for command, shown in found:
        assert difference(shown, runner.output(command)) == "", command


def test_outputs_are_written_below_their_commands(runner: ModuleType) -> None:
    page = "a\n```console\n$ one\nold\n$ two\n```\nb\n```sh\n$ not run\n```\n"
    assert runner.renewed(page, lambda command: f"of {command}\n") == (
        "a\n```console\n$ one\nof one\n$ two\nof two\n```\nb\n```sh\n$ not run\n```\n"
    )


def test_other_programs_are_not_run(runner: ModuleType) -> None:
    with pytest.raises(SystemExit, match="only layerlab"):
        runner.output("rm -r /")
