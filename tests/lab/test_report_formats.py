"""A page as Markdown and as PDF."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.lab.report import pdf
from layerlab.lab.report.formula import Formula
from layerlab.lab.report.markdown import markdown
from layerlab.lab.report.page import (
    Bullets,
    Callout,
    Cell,
    Code,
    Column,
    Definitions,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Pictures,
    Section,
    Table,
    Text,
    write,
)
from layerlab.lab.report.pictures import Sheet

DRAWN = Figure("<svg/>", "A *curve*", "It rises from 1_a.")
ROWS: list[list[str | Cell]] = [["a|b", Cell("1", 1)], ["c", Cell(verdict="holds")]]
PAGE = Page(
    "A # report",
    "of `x_1`",
    [KeyFigures([KeyFigure("3", "hold", "of 4")]), Pictures([DRAWN]), Text("[there](#one), [that](#table-1)")],
    [
        Section(
            "One",
            "one",
            [
                Formula(r"a \le b"),
                Callout("refuted", "a <b> & c"),
                Table("T", [Column("n|m"), Column("v", "right")], ROWS, ["N"]),
                Code("run ```x```"),
                Definitions([("python", "3.11")]),
                Bullets(["- one"]),
                Sheet("S", ["first"], [("row", [None])]),
                DRAWN,
            ],
        )
    ],
)  # fmt: skip


def test_every_block_in_order() -> None:
    assert markdown(PAGE).split("\n\n") == [
        "# A \\# report",
        "of `x_1`",
        "- **3** hold (of 4)",
        '<a id="figure-1"></a>',
        "**Figure 1.** A *curve*",
        "> It rises from 1\\_a.",
        "[there](#one), [that](#table-1)",
        '<a id="one"></a>',
        "## One",
        "$$\na \\le b\n$$",
        "> **✗ Refuted** a &lt;b> &amp; c",
        '<a id="table-1"></a>',
        "**Table 1.** T",
        "| n\\|m | v |\n| --- | ---: |\n| a\\|b | 1 |\n| c | ✓ Holds |",
        "N",
        "````\nrun ```x```\n````",
        "- python: 3.11",
        "- \\- one",
        '<a id="sheet-1"></a>',
        "**Sheet 1.** S",
        "|  | first |\n| --- | --- |\n| row |  |",
        '<a id="figure-2"></a>',
        "**Figure 2.** A *curve*",
        "> It rises from 1\\_a.\n",
    ]


def test_without_a_browser_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"none of chromium, .* is on the PATH; install Chromium"):
        pdf.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf")


@pytest.mark.parametrize(
    "body", ["exit 3", "for a; do case $a in --print-to-pdf=*) echo no > ${a#*=};; esac; done"]
)
def test_a_browser_that_does_not_print_leaves_nothing(
    body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "chromium").write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    (tmp_path / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UserError, match="did not print"):
        pdf.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


@pytest.mark.parametrize("user", [0, 1000])
def test_only_root_prints_without_the_browsers_sandbox(
    user: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    script = f"#!/bin/sh\necho $@ > {told}\nfor a; do case $a in --print-to-pdf=*) echo %PDF > ${{a#*=}};; esac; done\n"
    (tmp_path / "chromium").write_text(script, encoding="utf-8")
    (tmp_path / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("os.geteuid", lambda: user)
    pdf.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf")
    assert ("--no-sandbox" in told.read_text(encoding="utf-8")) == (user == 0)


@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="no browser on the PATH that prints")
def test_a_browser_prints(tmp_path: Path) -> None:
    page = write(Page("Title", "", [Text("Words.")], []), tmp_path / "a b.html")
    assert pdf.print_pdf(page, tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
