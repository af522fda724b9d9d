"""A report page as Markdown: the same words, tables and formulas; drawings in their words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from layerlab.errors import printable_lines
from layerlab.lab.report.formula import Formula
from layerlab.lab.report.page import (
    VERDICTS,
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Definitions,
    Figure,
    KeyFigures,
    Page,
    Pictures,
    Table,
    Text,
)
from layerlab.lab.report.pictures import Sheet


def markdown(page: Page) -> str:
    """The page as one Markdown document (CommonMark, tables as GitHub has them, formulas between ``$$``).

    Args:
        page: what to show.

    Returns:
        The document; links within it lead to anchors that it sets.

    >>> print(markdown(Page("A report", "", [Text("**Yes**, x_1 < 2.")], [])))
    # A report
    <BLANKLINE>
    **Yes**, x\\_1 &lt; 2.
    <BLANKLINE>
    """
    counts = {"figure": 0, "table": 0, "sheet": 0}
    parts = [f"# {_words(page.title)}", _words(page.subtitle)]
    for block in page.lead:
        parts += _block(block, counts)
    for section in page.sections:
        parts.append(f'<a id="{section.anchor}"></a>\n\n## {_words(section.title)}')
        for block in section.blocks:
            parts += _block(block, counts)
    parts.append(_words(page.footer))
    return printable_lines("\n\n".join(part for part in parts if part)) + "\n"


def _words(text: str) -> str:
    """A text with the marks of the page, which are Markdown's own; what else Markdown would read is escaped."""
    pieces = re.split(r"(`[^`]+`)", text)
    for place in range(0, len(pieces), 2):
        piece = pieces[place].replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
        pieces[place] = re.sub(r"[_#~]|^[-+>]", r"\\\g<0>", piece).replace("](\\#", "](#")
    return "".join(pieces)


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        cell = Cell(cell)
    text = _words(cell.text)
    if cell.verdict is not None:
        sign, word = VERDICTS[cell.verdict]
        text = f"{sign} {text or word}"
    return " ".join(text.split()).replace("|", "\\|")


def _rows(rows: list[list[str]], right: list[bool]) -> str:
    head, *body = rows
    rule = ["---:" if each else "---" for each in right]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _block(block: Block, counts: dict[str, int]) -> Iterator[str]:
    if isinstance(block, Text):
        yield _words(block.text)
    elif isinstance(block, Formula):
        yield f"$$\n{block.tex}\n$$"
    elif isinstance(block, Callout):
        sign, word = VERDICTS[block.kind]
        yield f"> **{sign} {word}** {_words(block.text)}"
    elif isinstance(block, KeyFigures):
        yield "\n".join(
            f"- **{_words(item.value)}** {_words(item.label)}"
            + (f" ({_words(item.note)})" if item.note else "")
            for item in block.items
        )
    elif isinstance(block, Definitions):
        yield "\n".join(f"- {_words(term)}: {_words(text)}" for term, text in block.items)
    elif isinstance(block, Bullets):
        yield "\n".join(f"- {_words(item)}" for item in block.items)
    elif isinstance(block, Code):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.code)), default=0))
        yield f"{fence}\n{block.code}\n{fence}"
    elif isinstance(block, Pictures):
        for figure in block.figures:
            yield from _block(figure, counts)
    else:
        yield from _numbered(block, counts)


def _numbered(block: Figure | Table | Sheet, counts: dict[str, int]) -> Iterator[str]:
    counts[block.block] += 1
    name = f"{block.block}-{counts[block.block]}"
    label = f"{block.block.capitalize()} {counts[block.block]}."
    yield f'<a id="{name}"></a>\n\n**{label}** {_words(block.caption)}'
    if isinstance(block, Figure):
        yield f"> {_words(block.alt)}"
    elif isinstance(block, Table):
        head = [_cell(column.label) for column in block.columns]
        right = [column.align == "right" for column in block.columns]
        yield _rows([head, *([_cell(cell) for cell in row] for row in block.rows)], right)
        yield from map(_words, block.notes)
    else:
        head = ["", *map(_cell, block.columns)]
        body = [[_cell(name), *(_cell(each.alt if each else "") for each in row)] for name, row in block.rows]
        yield _rows([head, *body], [False] * len(head))
