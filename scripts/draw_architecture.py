"""Draw docs/images/architecture.svg and the tables of docs/architecture.md from the rules of tests/test_imports.py.

The drawing has one row a floor, and a row may import every row below it: where the rules say otherwise, this script
stops instead of drawing something untrue.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
DRAWING = ROOT / "docs" / "images" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- begin: scripts/draw_architecture.py -->", "<!-- end -->"

Ranks = Mapping[str, Mapping[str, int]]
Rooms = Mapping[str, set[str]]

WIDTH, BOX, GAP, ROW, LEFT = 860, 116, 12, 34, 60


def rules() -> ModuleType:
    """tests/test_imports.py, where the rules are written down."""
    spec = importlib.util.spec_from_file_location("rules", ROOT / "tests" / "test_imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def floors(rooms: Rooms) -> list[list[str]]:
    """The rooms in rows, lowest first; rooms of a row import each other both ways or not at all.

    >>> floors({"a": set(), "b": {"a"}, "c": {"a"}, "d": {"a", "b", "c"}})
    [['a'], ['b', 'c'], ['d']]
    """
    left, rows = {room: set(below) for room, below in rooms.items()}, []
    while left:
        row = sorted(
            room for room, below in left.items() if all(room in left[other] for other in below & left.keys())
        )
        if not row:
            raise SystemExit(f"the rules hold a ring: {sorted(left)}")
        seen = set().union(*rows) if rows else set()
        for room in row:
            if rooms[room] - set(row) != seen:
                raise SystemExit(f"{room} may not import all rows below it: draw arrows, not rows")
        rows.append(row)
        left = {room: below for room, below in left.items() if room not in row}
    return rows


def _words(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _room(name: str, x: float, y: float, height: float, ranks: Mapping[str, int] | None) -> list[str]:
    """A box; in a domain's, a square for each module, those that import nothing of the room at the bottom."""
    parts = [f'<rect class="room" x="{x:g}" y="{y:g}" width="{BOX}" height="{height:g}" rx="5"/>']
    parts.append(_words(x + BOX / 2, y + 20, name))
    for rank in sorted(set((ranks or {}).values())):
        modules = sorted(module for module, place in (ranks or {}).items() if place == rank)
        start = x + BOX / 2 - 4 * len(modules)
        bottom = y + height - 14 - 9 * rank
        parts.append(f"<g><title>{escape(', '.join(modules))}</title>")
        parts += [
            f'<rect class="module" x="{start + 8 * place:g}" y="{bottom:g}" width="6" height="6"/>'
            for place in range(len(modules))
        ]
        parts.append("</g>")
    return parts


def drawing(rooms: Rooms, ranks: Ranks) -> str:
    """The SVG: rows of rooms, and within each domain its modules by rank."""
    rows = floors({room: below for room, below in rooms.items() if not room.startswith("__")})
    tallest = 40 + 9 * max(len(set(places.values())) for places in ranks.values())
    parts: list[str] = []
    y = 10.0
    for row in reversed(rows):
        height = tallest if set(row) & ranks.keys() else ROW
        span = len(row) * BOX + (len(row) - 1) * GAP
        x = LEFT + (WIDTH - LEFT - span) / 2
        for place, room in enumerate(row):
            parts += _room(room, x + place * (BOX + GAP), y, height, ranks.get(room))
            if place and row[place - 1] in rooms[room]:
                middle = y + height / 2
                end = x + place * (BOX + GAP)
                parts.append(f'<path class="line" d="M{end - GAP:g} {middle:g}H{end:g}"/>')
        if row is not rows[0]:
            tip = y + height + 24
            centre = LEFT + (WIDTH - LEFT) / 2
            parts.append(f'<path class="line" d="M{centre:g} {tip - 22:g}V{tip - 6:g}"/>')
            parts.append(f'<path class="tip" d="M{centre - 4:g} {tip - 8:g}h8l-4 7z"/>')
        y += height + 26
    # The direction, said once.
    parts.append(f'<path class="line" d="M26 14V{y - 44:g}"/><path class="tip" d="M22 {y - 46:g}h8l-4 8z"/>')
    parts.append(
        f'<g transform="translate(18 {y / 2:g}) rotate(-90)">{_words(0, 0, "may import", "small")}</g>'
    )
    counts = sum(len(places) for places in ranks.values())
    told = (
        "Rows of rooms, each may import the rows below it: "
        + "; ".join(", ".join(row) for row in reversed(rows))
        + f". The domains do not import each other; their {counts} modules stand in ranks."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:g}" role="img" '
            f'aria-label="{escape(told)}">',
            "<style>text{font:14px sans-serif;fill:#1a1a1a}.small{font-size:12px}.room{fill:#f3f5f8;stroke:#5a6472}"
            ".module{fill:#2f6fb0}.line{stroke:#5a6472;fill:none}.tip{fill:#5a6472}</style>",
            f'<rect width="{WIDTH}" height="{y:g}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def tables(ranks: Ranks) -> str:
    """For each domain its modules by rank, the lowest first."""
    lines: list[str] = []
    for room, places in sorted(ranks.items()):
        lines += [f"### {room}", "", "| rank | modules |", "|--:|---|"]
        for rank in sorted(set(places.values())):
            names = ", ".join(f"`{module}`" for module, place in sorted(places.items()) if place == rank)
            lines.append(f"| {rank + 1} | {names} |")
        lines.append("")
    return "\n".join(lines)


def page(text: str, ranks: Ranks) -> str:
    """The page's text with its tables renewed."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables(ranks)}\n{END}{tail}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    known = rules()
    DRAWING.write_text(drawing(known.ROOMS, known.ORDERS), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), known.ORDERS), encoding="utf-8")


if __name__ == "__main__":
    main()
