"""docs/architecture.md and its drawing are true to the rules of tests/test_imports.py."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from .loading import program

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawer() -> ModuleType:
    return program("scripts/draw_architecture.py")


@pytest.fixture(scope="module")
def rules(drawer: ModuleType) -> ModuleType:
    return drawer.rules()


def test_the_drawing_is_current(drawer: ModuleType, rules: ModuleType) -> None:
    assert drawer.DRAWING.read_text(encoding="utf-8") == drawer.drawing(rules.ROOMS, rules.ORDERS), (
        "run `make docs`"
    )


def test_the_tables_are_current(drawer: ModuleType, rules: ModuleType) -> None:
    page = drawer.PAGE.read_text(encoding="utf-8")
    assert page.count(drawer.BEGIN) == page.count(drawer.END) == 1
    assert page == drawer.page(page, rules.ORDERS), "run `make docs`"


def test_every_room_is_told_of(rules: ModuleType) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The ranks")[0]
    assert [room for room in rules.ROOMS if not room.startswith("__") and f"`{room}`" not in page] == []


def test_the_drawing_has_every_room_and_module(drawer: ModuleType, rules: ModuleType) -> None:
    drawn = ElementTree.fromstring(drawer.DRAWING.read_text(encoding="utf-8"))
    words = {element.text for element in drawn.iter(f"{SVG}text")}
    assert {room for room in rules.ROOMS if not room.startswith("__")} | {"may import"} == words
    squares = [element for element in drawn.iter(f"{SVG}rect") if element.get("class") == "module"]
    assert len(squares) == sum(map(len, rules.ORDERS.values()))


def test_rows_are_floors(drawer: ModuleType) -> None:
    rooms = {"top": {"left", "right", "ground"}, "left": {"ground"}, "right": {"ground"}, "ground": set()}
    assert drawer.floors(rooms) == [["ground"], ["left", "right"], ["top"]]
    assert drawer.floors({"a": {"b"}, "b": {"a"}}) == [["a", "b"]]


@pytest.mark.parametrize(
    "rooms",
    [
        {"top": {"left"}, "left": {"ground"}, "ground": set()},  # not the ground: no row
        {"a": {"b"}, "b": {"c"}, "c": {"a"}},
    ],
)
def test_what_rows_cannot_show_is_not_drawn(drawer: ModuleType, rooms: dict[str, set[str]]) -> None:
    with pytest.raises(SystemExit):
        drawer.floors(rooms)
