"""The model of a report page, and its rendering to one self-contained HTML file.

A page is made of plain values: nothing is computed here, and nothing that enters is trusted to be markup.
Text may hold three kinds of marks, and no others: ``**strong**``, ``*emphasis*``, `` `code` ``, and links
within the page, ``[words](#anchor)``.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ClassVar, Literal

import jinja2
from markupsafe import Markup, escape

from layerlab.errors import UserError, printable_lines
from layerlab.lab.files import write_atomic
from layerlab.lab.report.formula import Formula, mathml
from layerlab.lab.report.pictures import Sheet, check_sheet
from layerlab.lab.report.svg import for_page

Verdict = Literal[
    "holds",
    "refuted",
    "measured",
    "violated",
    "hypotheses unmet",
    "healthy",
    "vanishing",
    "exploding",
    "note",
]

VERDICTS: dict[str, tuple[str, str]] = {
    "holds": ("✓", "Holds"),
    "refuted": ("✗", "Refuted"),
    "measured": ("◆", "Measured"),
    "violated": ("!", "Violated"),
    "hypotheses unmet": ("∅", "Hypotheses unmet"),
    "healthy": ("→", "Healthy"),
    "vanishing": ("↓", "Vanishing"),
    "exploding": ("↑", "Exploding"),
    "note": ("i", "Note"),
}
"""Verdict -> the sign and the word that stand beside its colour."""


@dataclass(frozen=True)
class Text:
    """A paragraph, with the marks of this module."""

    text: str
    block: ClassVar[str] = "text"


@dataclass(frozen=True)
class Column:
    """A column of a `Table`: its heading and how its cells are set."""

    label: str
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Cell:
    """A cell of a `Table`.

    Args:
        text: what is shown, with the marks of this module.
        sort: the number to sort by; None sorts by the text.
        verdict: set as a verdict, with its sign; ``text`` then stands in place of its word, if not empty.
    """

    text: str = ""
    sort: float | None = None
    verdict: Verdict | None = None

    @property
    def key(self) -> str | None:
        """The sort value as an attribute; what is not finite has none."""
        return None if self.sort is None or not math.isfinite(self.sort) else repr(float(self.sort))


@dataclass(frozen=True)
class Table:
    """A table; the first column names its rows. Sortable by every column where scripts run.

    Args:
        caption: what the table shows, with the marks of this module.
        columns: the columns, at least one.
        rows: the rows, each as long as ``columns``; a plain string is a `Cell` without sort value.
        notes: remarks below the table.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Cell]]
    notes: Sequence[str] = ()
    block: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A drawing, made by `layerlab.lab.report.figures`.

    Args:
        svg: one ``<svg>`` element, as drawn for a wide column.
        caption: what to see in it, with the marks of this module.
        alt: what it shows, in words, for those who do not see it.
        narrow: the same drawing for a phone; None shows the wide one there too.
    """

    svg: str
    caption: str
    alt: str
    narrow: str | None = None
    block: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Pictures:
    """Figures side by side where there is room."""

    figures: Sequence[Figure]
    block: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Code:
    """Commands, shown as they are typed; ``label`` says what they do."""

    code: str
    label: str = "Command"
    block: ClassVar[str] = "code"


@dataclass(frozen=True)
class Callout:
    """A verdict or a remark, set apart."""

    kind: Verdict
    text: str
    block: ClassVar[str] = "callout"


@dataclass(frozen=True)
class KeyFigure:
    """One of the big numbers of `KeyFigures`."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class KeyFigures:
    """A row of three or four big numbers."""

    items: Sequence[KeyFigure]
    block: ClassVar[str] = "key_figures"


@dataclass(frozen=True)
class Definitions:
    """Terms and what they are, such as the environment of a run."""

    items: Sequence[tuple[str, str]]
    block: ClassVar[str] = "definitions"


@dataclass(frozen=True)
class Bullets:
    """Sentences, one a line, with the marks of this module."""

    items: Sequence[str]
    block: ClassVar[str] = "bullets"


Block = (
    Text | Formula | Table | Figure | Pictures | Code | Callout | KeyFigures | Definitions | Bullets | Sheet
)


@dataclass(frozen=True)
class Section:
    """A section of a page; ``anchor`` (a-z, digits, -) is its address within it."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: the name of the page.
        subtitle: one line below it.
        lead: the blocks before the first section: the story in one screen.
        sections: the rest.
        footer: a line at the end (who made it, with what, when), with the marks of this module.
    """

    title: str
    subtitle: str
    lead: Sequence[Block]
    sections: Sequence[Section]
    footer: str = ""


@dataclass(frozen=True)
class _Placed:
    """A block with its number among its kind, its id, and its drawings, whose ids are unique on the page."""

    block: Block
    number: int
    id: str
    drawings: tuple[tuple[str, Markup], ...] = ()
    parts: tuple[_Placed, ...] = ()


def render(page: Page) -> str:
    """The page as one HTML document that needs nothing from outside itself.

    Args:
        page: what to show.

    Returns:
        The document. The same page gives the same text.

    Raises:
        UserError: a table or sheet whose rows do not fit its columns, an anchor that is taken or malformed, a link
            to an anchor that is not there, an unknown verdict, a figure that is not a plain drawing, or a picture
            that is no PNG.

    >>> html = render(Page("A < B", "", [Text("**Yes**, `x < y`.")], []))
    >>> "<h1>A &lt; B</h1>" in html, "<strong>Yes</strong>, <code>x &lt; y</code>." in html
    (True, True)
    """
    counts: dict[str, int] = {}
    lead = [_place(block, counts) for block in page.lead]
    sections = [(section, [_place(block, counts) for block in section.blocks]) for section in page.sections]
    _check_anchors(page, counts)
    script = _asset("page.js")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable_lines(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marks"] = marks
    environment.filters["mathml"] = lambda tex: Markup(mathml(tex))
    return environment.from_string(_asset("template.html.j2")).render(
        page=page,
        lead=lead,
        sections=sections,
        verdicts=VERDICTS,
        style=Markup(_asset("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write(page: Page, path: str | Path) -> Path:
    """Render ``page`` into the file ``path``, whole or not at all.

    Args:
        page: what to show.
        path: the HTML file; its folder must exist.

    Returns:
        The path.

    Raises:
        UserError: see `render`; or the file cannot be written.
    """
    path = Path(path)
    # A lone surrogate (an undecodable byte of a file name) has no UTF-8.
    write_atomic(path, render(page).encode("utf-8", errors="replace"))
    return path


_MARK = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*\s](?:[^*]*[^*\s])?)\*\*"
    r"|(?<!\w)\*(?P<em>[^*\s](?:[^*]*[^*\s])?)\*(?!\w)"
    r"|\[(?P<words>[^\[\]]+)\]\(#(?P<anchor>[a-z0-9-]+)\)"
)


def marks(text: str) -> Markup:
    """``text`` as HTML: everything escaped, the marks of this module set.

    >>> print(marks("*so* `a*b` <b> [here](#top) 2*3*4"))
    <em>so</em> <code>a*b</code> &lt;b&gt; <a href="#top">here</a> 2*3*4
    """
    text = printable_lines(text)
    parts: list[Markup] = []
    end = 0
    for found in _MARK.finditer(text):
        parts.append(escape(text[end : found.start()]))
        end = found.end()
        if found["anchor"]:
            parts.append(Markup('<a href="#{}">{}</a>').format(found["anchor"], found["words"]))
        else:
            kind = str(found.lastgroup)
            parts.append(Markup(f"<{kind}>{{}}</{kind}>").format(found[kind]))
    parts.append(escape(text[end:]))
    return Markup("").join(parts)


def _asset(name: str) -> str:
    return resources.files("layerlab.lab.report").joinpath(name).read_text(encoding="utf-8")


def _place(block: Block, counts: dict[str, int]) -> _Placed:
    if isinstance(block, Pictures):
        return _Placed(block, 0, "", parts=tuple(_place(figure, counts) for figure in block.figures))
    counts[block.block] = number = counts.get(block.block, 0) + 1
    name = f"{block.block.replace('_', '-')}-{number}"
    if isinstance(block, Callout):
        _check_verdict(block.kind)
    if isinstance(block, Table):
        for row in block.rows:
            if len(row) != len(block.columns):
                raise UserError(
                    f"the table {block.caption!r} has {len(block.columns)} columns, but a row of {len(row)}"
                )
            for cell in row:
                if isinstance(cell, Cell) and cell.verdict is not None:
                    _check_verdict(cell.verdict)
        rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in block.rows]
        block = Table(block.caption, block.columns, rows, block.notes)
    if isinstance(block, Sheet):
        check_sheet(block)
    drawings: list[tuple[str, Markup]] = []
    if isinstance(block, Figure):
        wide = "wide" if block.narrow is not None else "only"
        drawings.append((wide, Markup(for_page(block.svg, f"{name}-"))))
        if block.narrow is not None:
            drawings.append(("narrow", Markup(for_page(block.narrow, f"{name}-narrow-"))))
    return _Placed(block, number, name, tuple(drawings))


def _check_verdict(kind: str) -> None:
    if kind not in VERDICTS:
        raise UserError(f"expected one of the verdicts {', '.join(VERDICTS)}, got {kind!r}")


def _check_anchors(page: Page, counts: dict[str, int]) -> None:
    taken = {"content", "contents"}
    for kind in ("figure", "table", "sheet"):
        taken.update(f"{kind}-{number + 1}" for number in range(counts.get(kind, 0)))
    for section in page.sections:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", section.anchor):
            raise UserError(f"expected an anchor of a-z, digits and '-', got {section.anchor!r}; rename it")
        if section.anchor in taken or re.match(r"(figure|table|sheet)-\d", section.anchor):
            raise UserError(f"the anchor {section.anchor!r} is taken; rename the section's anchor")
        taken.update({section.anchor, f"{section.anchor}-title"})
    for text in _texts(page):
        for found in _MARK.finditer(text):
            if found["anchor"] and found["anchor"] not in taken:
                raise UserError(
                    f"the link {found[0]!r} leads nowhere; there is no such section, figure or table"
                )


def _texts(page: Page) -> Iterator[str]:
    """Every text of the page in which marks are set."""
    yield from (page.subtitle, page.footer)
    blocks = [*page.lead, *(block for section in page.sections for block in section.blocks)]
    for block in blocks:
        if isinstance(block, Pictures):
            blocks.extend(block.figures)
        elif isinstance(block, (Text, Callout)):
            yield block.text
        elif isinstance(block, (Table, Figure, Sheet)):
            yield block.caption
        if isinstance(block, Table):
            yield from block.notes
            yield from (cell.text if isinstance(cell, Cell) else cell for row in block.rows for cell in row)
        elif isinstance(block, KeyFigures):
            yield from (item.note for item in block.items)
        elif isinstance(block, Definitions):
            yield from (text for _, text in block.items)
        elif isinstance(block, Bullets):
            yield from block.items
