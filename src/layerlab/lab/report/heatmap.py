"""Heat maps from plain numbers, by the rules of `layerlab.lab.report.figures`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from layerlab.errors import UserError
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, MUTED, PAPER, RULE
from layerlab.lab.report.page import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

Scale = Literal["linear", "log", "diverging"]

# Told apart with each common colour blindness, and as greys; seen on light paper and on dark.
_COLOURS = {"linear": "viridis", "log": "viridis", "diverging": "PuOr"}
# More shades than an eye tells apart; equal ones side by side are drawn as one.
_SHADES = 32
_NAMED_ROWS = 12
_BAR = 13.0
_BELOW = 46.0


def heat_map(
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "Heat map",
    caption: str = "",
    unit: str = "",
    xlabel: str = "",
    scale: Scale = "linear",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A field of cells, each in the colour of its value, with the colour bar above.

    Args:
        values: a list for each row, from above, of a value for each column. None is missing: a crossed-out cell.
        rows: their names; in the drawing long ones lose what all begin with ("encoder.layers."), then their middle.
        columns: their names; in the drawing as many as there is room for.
        title: the name of the figure for those who do not see it.
        caption: its caption on the page.
        unit: what the values are, with their unit; stands at the colour bar.
        xlabel: what the columns are.
        scale: of the colours. On a logarithmic one values not above 0 are grey; a diverging one has 0 in its middle.
        limits: the values at the ends of the scale; values beyond take the colour of the end. None takes the range
            of the values.

    Returns:
        The figure; resting on a cell tells its value (cells of one shade side by side, their range).

    Raises:
        UserError: no cells, rows of different lengths, names that do not fit, no value that can be drawn, something
            that is no number, or limits that do not ascend (or are not above 0 on a logarithmic scale).

    >>> heat_map([[1, 2], [3, None]], rows=["a", "b"], columns=["1", "2"], unit="size", xlabel="step").alt
    'size, 2 rows by 2 columns (step). Least 1 at a, 1; most 3 at b, 1. 1 missing. a: 1 to 2. b: 3.'
    """
    field = _Field.of(values, rows, columns, unit, scale, limits)
    hover: dict[str, str] = {}

    def draw(narrow: bool) -> Drawing:
        drawing, axes = _framed(field, narrow, xlabel)
        _draw_cells(axes, field, hover)
        return drawing

    return canvas.compose(draw, title=title, caption=caption, alt=field.told(xlabel), hover=hover)


@dataclass(frozen=True)
class _Field:
    """The checked values, with their scale from ``low`` to ``high``."""

    values: list[list[float | None]]
    rows: list[str]
    columns: list[str]
    unit: str
    scale: Scale
    low: float
    high: float

    @staticmethod
    def of(
        values: Sequence[Sequence[float | None]],
        rows: Sequence[str],
        columns: Sequence[str],
        unit: str,
        scale: Scale,
        limits: tuple[float, float] | None,
    ) -> _Field:
        if scale not in _COLOURS:
            raise UserError(f"expected one of the scales {', '.join(_COLOURS)}, got {scale!r}")
        given = [[None if v is None else canvas.number(v, "values") for v in row] for row in values]
        if not given or not given[0]:
            raise UserError(
                "expected at least one row and one column to draw, got none; leave the figure out"
            )
        if len(given) != len(rows) or any(len(row) != len(columns) for row in given):
            raise UserError(
                f"expected {len(rows)} rows of {len(columns)} values, as there are names, got {len(given)} rows "
                f"of {', '.join(map(str, sorted({len(row) for row in given})))}"
            )
        known = [v for row in given for v in row if v is not None and (scale != "log" or v > 0)]
        if limits is not None:
            low, high = (canvas.number(end, "limits") for end in limits)
            if not low < high or (scale == "log" and low <= 0):
                above = " above 0" if scale == "log" else ""
                raise UserError(f"expected limits{above} that ascend, got {limits}")
        elif not known:
            raise UserError("expected a value to draw, all are missing; leave the figure out")
        elif scale == "diverging":
            high = max(map(abs, known)) or 1.0
            low = -high
        else:
            low, high = min(known), max(known)
            if low == high:
                low, high = (low / 2, high * 2) if scale == "log" else canvas.limits([low])
        left, below = ([canvas.clean_label(name, 200) for name in kind] for kind in (rows, columns))
        return _Field(given, left, below, canvas.clean_label(unit), scale, low, high)

    def place(self, value: float) -> float:
        """Where it is on the scale: 0 to 1."""
        low, high = self.low, self.high
        if self.scale == "log":
            value, low, high = math.log(value), math.log(low), math.log(high)
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def shade(self, value: float | None) -> int | None:
        """The number of its shade; -1 where it has no logarithm, None where it is missing."""
        if value is None:
            return None
        if self.scale == "log" and value <= 0:
            return -1
        return min(int(self.place(value) * _SHADES), _SHADES - 1)

    def runs(self, row: int) -> Iterator[tuple[int, int, int | None]]:
        """Neighbours of one shade: first column, the column after the last, shade."""
        shades = [self.shade(value) for value in self.values[row]]
        start = 0
        for column in range(1, len(shades) + 1):
            if column == len(shades) or shades[column] != shades[start]:
                yield start, column, shades[start]
                start = column

    def told(self, xlabel: str) -> str:
        """The text alternative."""
        cells = [
            (value, f"{_written(value)} at {name}, {column}")
            for name, line in zip(self.rows, self.values, strict=True)
            for column, value in zip(self.columns, line, strict=True)
            if value is not None
        ]
        across = f" ({xlabel})" if xlabel else ""
        said = [f"{self.unit or 'values'}, {len(self.rows)} rows by {len(self.columns)} columns{across}."]
        if cells:
            said.append(f"Least {min(cells)[1]}; most {max(cells)[1]}.")
        if missing := len(self.rows) * len(self.columns) - len(cells):
            said.append(f"{missing} missing.")
        if len(self.rows) <= _NAMED_ROWS:
            said += [
                f"{name}: {_range([value for value in line if value is not None])}."
                for name, line in zip(self.rows, self.values, strict=True)
            ]
        return " ".join(said)


def _written(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _range(values: Sequence[float]) -> str:
    if not values:
        return "missing"
    low, high = _written(min(values)), _written(max(values))
    return low if low == high else f"{low} to {high}"


def _shades(scale: Scale) -> list[str]:
    import matplotlib
    from matplotlib.colors import to_hex

    table = matplotlib.colormaps[_COLOURS[scale]]
    return [to_hex(table((position + 0.5) / _SHADES)) for position in range(_SHADES)]


def _framed(field: _Field, narrow: bool, xlabel: str) -> tuple[Drawing, Axes]:
    """A drawing with names and colour bar, and axes in which a cell is 1 by 1."""
    width = canvas.NARROW if narrow else canvas.WIDE
    # Beyond some forty rows the page would not end: rows and names become smaller.
    height, size = (20.0, 13.0) if len(field.rows) <= 40 else (14.0, 11.0)
    letter = 0.56 * size
    left = min(14 + letter * max(map(len, field.rows)), 0.36 * width)
    room = int((left - 10) / letter)
    shades = {shade for row in range(len(field.rows)) for _, _, shade in field.runs(row)}
    keys: list[canvas.Key] = []
    if None in shades:
        keys.append(("missing", {"marker": "x", "mec": MUTED, "ms": 8}))
    if -1 in shades:
        keys.append(("0 or below", {"marker": "s", "mfc": MUTED, "mec": MUTED, "ms": 9}))
    over = canvas.key_height(width, keys) if keys else 0.0
    top = over + 20 + _BAR + 30
    drawing = canvas.new_drawing(width, top + height * len(field.rows) + _BELOW)
    if keys:
        canvas.draw_key(drawing, keys)
    axes = canvas.place_axes(drawing, left, top, 12, _BELOW)
    axes.set(xlim=(0, len(field.columns)), ylim=(len(field.rows), 0), xlabel=canvas.clean_label(xlabel))
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = _short_names(field.rows, room)
    axes.set_yticks([row + 0.5 for row in range(len(names))], names, color=INK, fontsize=size)
    axes.tick_params(axis="y", length=0)
    shown = _columns_with_room(field.columns, width - left - 12)
    axes.set_xticks([column + 0.5 for column in shown], [field.columns[column] for column in shown])
    _draw_bar(drawing, field, left, over, 12)
    return drawing, axes


def _short_names(names: Sequence[str], room: int) -> list[str]:
    """The names, of at most ``room`` letters where they can be."""
    if max(map(len, names)) > room and len(names) > 1:
        parts = [name.split(".") for name in names]
        shared = 0
        while min(map(len, parts)) > shared + 1 and len({part[shared] for part in parts}) == 1:
            shared += 1
        names = [".".join(part[shared:]) for part in parts]
    head, tail = max(room // 2 - 1, 1), max(room - room // 2, 1)
    return [name if len(name) <= room else f"{name[:head]}…{name[-tail:]}" for name in names]


def _columns_with_room(names: Sequence[str], width: float) -> list[int]:
    """Every n-th column, from the first, so that the names do not touch."""
    longest = 7.3 * max(map(len, names)) + 14
    every = max(1, math.ceil(longest * len(names) / width))
    return list(range(0, len(names), every))


def _draw_bar(drawing: Drawing, field: _Field, left: float, over: float, right: float) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import LogLocator, MaxNLocator

    bottom = 72 * drawing.get_size_inches()[1] - over - 20 - _BAR
    bar = canvas.place_axes(drawing, left, over + 20, right, bottom)
    bar.set(ylim=(0, 1), xlim=(field.low, field.high), yticks=[])
    if field.scale == "log":
        bar.set_xscale("log")
        bar.xaxis.set_major_locator(LogLocator(numticks=6))
        canvas.plain_powers(bar.xaxis)
    else:
        bar.xaxis.set_major_locator(MaxNLocator(5))
    for spine in bar.spines.values():
        spine.set_visible(False)
    for position, tone in enumerate(_shades(field.scale)):
        start = position / _SHADES
        common: dict[str, Any] = {"transform": bar.transAxes, "clip_on": False, "linewidth": 0}
        # To the end each: the next covers the rest, and no seam is left.
        bar.add_patch(Rectangle((start, 0), 1 - start, 1, facecolor=tone, **common))
    bar.text(0, 1.35, field.unit, transform=bar.transAxes, color=MUTED, va="bottom")


def _draw_cells(axes: Axes, field: _Field, hover: dict[str, str]) -> None:
    from matplotlib.patches import Rectangle

    tones = _shades(field.scale)
    crosses: list[tuple[float, float]] = []
    for row, name in enumerate(field.rows):
        end = len(field.columns)
        for start, stop, shade in field.runs(row):
            gid = f"cell-{row}-{start}"
            tone = PAPER if shade is None else MUTED if shade < 0 else tones[shade]
            # To the end of the row: the next covers the rest, and no seam is left.
            axes.add_patch(
                Rectangle((start, row), end - start, 1, facecolor=tone, linewidth=0, clip_on=False, gid=gid)
            )
            if shade is None:
                crosses += [(column + 0.5, row + 0.5) for column in range(start, stop)]
            across = field.columns[start]
            if stop - start > 1:
                across += f" to {field.columns[stop - 1]}"
            known = [value for value in field.values[row][start:stop] if value is not None]
            hover[gid] = f"{name}, {across}: {_range(known)}"
    for row in range(len(field.rows) + 1):
        axes.axhline(row, color=PAPER, lw=1.5, clip_on=False)
    if crosses:
        x, y = zip(*crosses, strict=True)
        axes.plot(x, y, linestyle="", marker="x", ms=5, mec=RULE, mew=1, clip_on=False)
