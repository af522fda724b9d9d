"""A page without a mouse: what the Tab key reaches, and what Enter does there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerlab.lab.report.formula import Formula
from layerlab.lab.report.page import Cell, Column, Page, Section, Table, Text, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ["measured", "said", *(f"another number {number}" for number in range(4))]
PAGE = Page(
    "A page",
    "",
    [Text("[down](#one)")],
    [
        Section(
            "One",
            "one",
            [
                Formula("a + b"),
                Formula("+".join(["a_{long}"] * 8)),
                Table(
                    "T",
                    [Column(""), *(Column(name, "right") for name in NAMES)],
                    [["b", *[Cell("2", 2)] * 6], ["a", *[Cell("10", 10)] * 6]],
                ),
            ],
        )
    ],
)


def stops(browser: Browser, file: Path, width: int) -> list[str]:
    """What the Tab key reaches, one after the other."""
    page = browser.new_page(viewport={"width": width, "height": 700})
    page.goto(file.as_uri())
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "(e => e.getAttribute('aria-label') || e.className || e.textContent)(document.activeElement)"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.append(where)
    page.close()
    return reached


def test_only_what_scrolls_is_a_stop(browser: Browser, tmp_path: Path) -> None:
    file = write(PAGE, tmp_path / "report.html")
    # A heading without words is no heading.
    headings = NAMES
    assert stops(browser, file, 1440) == ["skip", "One", "down", *headings]
    assert stops(browser, file, 360) == ["skip", "One", "down", "Formula", "scroll", *headings]


def test_enter_sorts_and_says_so(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 700})
    page.goto(write(PAGE, tmp_path / "report.html").as_uri())
    page.focus("th:nth-child(2) button")
    for direction, order in (("ascending", ["b", "a"]), ("descending", ["a", "b"])):
        page.keyboard.press("Enter")
        assert page.get_attribute("th:nth-child(2)", "aria-sort") == direction
        assert page.locator("tbody th").all_text_contents() == order
    page.close()
