"""What the figures are drawn on: sizes, sentinel colours, rows with names and numbers, keys, SVG."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError
from layerlab.lab.report.page import Figure
from layerlab.lab.report.svg import SERIES, from_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Drawing
    from matplotlib.transforms import Transform

# Sentinel colours: svg.py turns them into those of the page.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"

# One unit of a drawing is one pixel at its natural width: the text column of a desktop page, and a phone.
WIDE, NARROW = 728, 328

# What tells series apart beside their colours; they begin again after the last.
_MARKERS = ("o", "s", "^", "D", "v", "P")
# One fewer than the markers and colours: after six series the pairs are new.
_LINES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.5)),
    (0, (7, 2, 1.5, 2)),
    (0, (4, 1, 1, 1)),
)
# Of lines across the whole drawing: limits and predictions.
_ACROSS: tuple[Any, ...] = ((0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

_FONT = 13.0
# matplotlib measures its own, wide font; the page sets the text in the system's, which is narrower.
_LETTER = 0.56 * _FONT
_BOLD = 0.64 * _FONT
# The key: how wide a sample is, and a letter beside it (matplotlib leaves room for its own font).
_SAMPLE = 48.0
_WORD = 0.65 * _FONT
_KEY_LINE = 20
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "layerlab",
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],
    "font.size": _FONT,
    "text.color": INK,
    # What a figure forgets to colour is ink, and not a colour that the page does not know.
    "axes.prop_cycle": f"cycler('color', ['{INK}'])",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": _FONT,
    "axes.linewidth": 1.0,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 4,
    "ytick.major.size": 4,
    "path.simplify": False,
}


def colour(position: int) -> str:
    """The sentinel colour of a series; they begin again after the last."""
    return f"#0a0a0{position % SERIES + 1}"


def marker(position: int) -> str:
    """The marker of a series."""
    return _MARKERS[position % len(_MARKERS)]


def line(position: int) -> Any:
    """The line style of a series."""
    return _LINES[position % len(_LINES)]


def line_across(position: int) -> Any:
    """The style of a line across the whole drawing: a limit, a prediction."""
    return _ACROSS[position % len(_ACROSS)]


def require(items: Sequence[Mapping[str, Any]], what: str, fields: Sequence[str]) -> None:
    """Refuse an empty list, and entries without one of ``fields``."""
    if not items:
        raise UserError(f"expected at least one of {what} to draw, got none; leave the figure out")
    for position, item in enumerate(items):
        if lacking := [field for field in fields if field not in item]:
            raise UserError(f"entry {position} of {what} has no {lacking[0]!r}; it needs {', '.join(fields)}")


def number(value: Any, what: str) -> float:
    """``value`` as a finite float; anything else is refused."""
    if isinstance(value, bool) or not hasattr(value, "__float__") or not math.isfinite(value):
        raise UserError(
            f"expected a finite number for {what!r} in a figure, got {value!r}; leave that entry out"
        )
    return float(value)


def interval(item: Mapping[str, Any]) -> tuple[float, float, float]:
    """The ``mean``, ``low`` and ``high`` of ``item``, checked."""
    mean, low, high = (number(item[name], name) for name in ("mean", "low", "high"))
    if not low <= mean <= high:
        raise UserError(
            f"expected low <= mean <= high in a figure, got {low}, {mean}, {high}; mend the record"
        )
    return mean, low, high


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of ``values`` with a margin; never empty."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def compose(
    draw: Callable[[bool], Drawing], *, title: str, caption: str, alt: str, hover: Mapping[str, str]
) -> Figure:
    """Draw twice, for a wide column and for a phone (``draw(True)``), and make a block of the page of it.

    Args:
        draw: makes the drawing.
        title: the name that is read out first.
        caption: the caption on the page.
        alt: the text alternative.
        hover: artist's gid -> what is shown when the pointer rests on it; ``draw`` may fill it.
    """
    title, alt = _clean(title), _clean(alt)
    drawn = [_save(draw, on_phone) for on_phone in (False, True)]
    # Only now: drawing is what fills `hover`.
    tips = {name: _clean(text) for name, text in hover.items()}
    wide, narrow = (from_matplotlib(source, title=title, description=alt, hover=tips) for source in drawn)
    return Figure(svg=wide, caption=caption, alt=alt, narrow=narrow)


def new_drawing(width: float, height: float) -> Drawing:
    """An empty drawing of that many units."""
    from matplotlib.figure import Figure as Drawing

    return Drawing(figsize=(width / 72, height / 72), dpi=72)


def place_axes(drawing: Drawing, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with these margins, in units."""
    width, height = (72 * side for side in drawing.get_size_inches())
    return drawing.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )


Key = tuple[str, dict[str, Any]]
"""A word of the key, and how its sample line is drawn (keywords of matplotlib's Line2D)."""


def key_height(width: float, keys: Sequence[Key]) -> float:
    """How high the key above a drawing of ``width`` is."""
    columns = _key_columns(width, keys)
    return _KEY_LINE * math.ceil(len(keys) / columns) + 14


def draw_key(drawing: Drawing, keys: Sequence[Key]) -> None:
    """Explain the signs of the drawing, in its upper left corner."""
    from matplotlib.lines import Line2D

    width = 72 * drawing.get_size_inches()[0]
    drawing.legend(
        handles=[Line2D([], [], **{"linestyle": "", **style}) for _, style in keys],
        labels=[clean_label(word, int((width - _SAMPLE) / _WORD)) for word, _ in keys],
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=_key_columns(width, keys),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=2.0,
        handletextpad=0.5,
        columnspacing=1.4,
        labelspacing=0.45,
    )


class Rows:
    """A drawing of one row an entry: its name, its marks, its numbers.

    On a wide page the name stands left of the row and the numbers right of it, on a phone both stand above.

    Args:
        narrow: whether it is for a phone.
        labels: the names, from above.
        numbers: the value and the interval of each row, as they are written.
        keys: what `draw_key` explains.
        row: how high a row is, without the line of names on a phone.
    """

    def __init__(
        self,
        narrow: bool,
        labels: Sequence[str],
        numbers: Sequence[tuple[str, str]],
        keys: Sequence[Key],
        row: float,
    ) -> None:
        width = NARROW if narrow else WIDE
        self.row = row + (22 if narrow else 0)
        # Where the middle of a row's marks is, in rows from the middle of the row.
        self.shift = 11 / self.row if narrow else 0.0
        left = right = 2.0
        if not narrow:
            left = min(18 + _BOLD * max(len(clean_label(label)) for label in labels), 0.34 * WIDE)
            right = 36 + max(_BOLD * len(value) + _LETTER * len(span) for value, span in numbers)
        top = key_height(width, keys)
        self.plot_width = width - left - right
        self.drawing = new_drawing(width, self.row * len(labels) + top + 48)
        self.axes = place_axes(self.drawing, left, top, right, 48)
        self.axes.set_ylim(len(labels) - 0.5, -0.5)
        self.axes.set_yticks([])
        self.axes.spines["left"].set_visible(False)
        self.axes.grid(axis="x")
        for position in range(len(labels)):
            self.axes.axhline(position - 0.5, color=RULE, lw=0.8, clip_on=False)
        draw_key(self.drawing, keys)
        for position, (label, (value, span)) in enumerate(zip(labels, numbers, strict=True)):
            if narrow:
                self._write_above(position, label, f"{value} {span}".strip())
            else:
                self._write_beside(position, label, value, span, left)

    def _write_above(self, position: int, label: str, numbers: str) -> None:
        room = int((NARROW - _LETTER * len(numbers) - 12) / _BOLD)
        y = position - 0.5 + 16 / self.row
        # The names stand on the lines of the plot here, so they bring a piece of paper with them.
        paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
        common: dict[str, Any] = {"transform": self._across(), "va": "center", "zorder": 6, "bbox": paper}
        self.axes.text(0, y, clean_label(label, max(room, 8)), weight="bold", **common)
        self.axes.text(1, y, numbers, ha="right", color=MUTED, **common)

    def _write_beside(self, position: int, label: str, value: str, span: str, left: float) -> None:
        room = int((left - 16) / _BOLD)
        name = "\n".join(textwrap.wrap(clean_label(label), room, max_lines=2, placeholder="…"))
        common: dict[str, Any] = {"transform": self._across(), "va": "center"}
        self.axes.text(0, position, name, weight="bold", **common)
        self.axes.text(1, position, span, ha="right", color=MUTED, **common)
        x = 1 - (12 + _LETTER * len(span)) / WIDE
        self.axes.text(x, position, value, ha="right", weight="bold", **common)

    def _across(self) -> Transform:
        """Coordinates: from 0 to 1 over the whole drawing across, rows down."""
        from matplotlib.transforms import blended_transform_factory

        return blended_transform_factory(self.drawing.transFigure, self.axes.transData)


def clean_label(text: str, longest: int = 60) -> str:
    """``text`` as one printable line."""
    line = " ".join(_clean(str(text)).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def plain_powers(axis: Axis) -> None:
    """Powers of ten as text: matplotlib writes them as formulas, which the browser does not read.

    Within one power of ten what lies between is named, or the axis would hold no number.
    """
    from matplotlib.ticker import FuncFormatter

    def written(value: float, position: int) -> str:
        if not 0 < value < 1e-3 and value < 1e5:
            return f"{value:g}"
        return "10" + f"{math.log10(value):.0f}".translate(_SUPERSCRIPTS)

    def between(value: float, position: int) -> str:
        low, high = sorted(axis.get_view_interval())
        decades = math.log10(high / low)
        leading = f"{value:.6e}"[0]
        return f"{value:g}" if decades < 0.4 or (decades < 1 and leading in "235") else ""

    axis.set_major_formatter(FuncFormatter(written))
    axis.set_minor_formatter(FuncFormatter(between))


def powers_of_two(axes: Axes) -> None:
    """A logarithmic scale of lengths and ranks, on which their usual values are named."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _clean(text: str) -> str:
    # XML has no place for control characters and lone surrogates.
    return "".join(
        letter if letter in "\n\t" or (letter >= " " and not "\ud800" <= letter <= "\udfff") else " "
        for letter in text.replace("\x7f", " ").replace("￾", " ").replace("￿", " ")
    )


def _key_columns(width: float, keys: Sequence[Key]) -> int:
    for columns in range(len(keys), 1, -1):
        # The entries run down the columns, the first of which may be longer; each is as wide as its widest.
        lines, longer = divmod(len(keys), columns)
        starts = [column * lines + min(column, longer) for column in range(columns + 1)]
        widths = [
            max(_SAMPLE + _WORD * len(clean_label(word)) for word, _ in keys[start:stop])
            for start, stop in pairwise(starts)
        ]
        if sum(widths) <= width:
            return columns
    return 1


def _save(draw: Callable[[bool], Drawing], narrow: bool) -> str:
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The person's own matplotlibrc must not change a byte.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        # The browser's fonts set the text, so what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        draw(narrow).savefig(stream, format="svg", transparent=True, metadata=metadata)
    return stream.getvalue().decode("utf-8")
