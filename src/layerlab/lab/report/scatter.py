"""Points in two measures, by the rules of `layerlab.lab.report.figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, PAPER
from layerlab.lab.report.page import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def scatter(
    groups: Sequence[Mapping[str, Any]],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "Points",
    caption: str = "",
    lines: Sequence[Mapping[str, Any]] = (),
) -> Figure:
    """Points on two logarithmic scales, in the colour and marker of their group.

    Args:
        groups: ``{"label", "points"}`` each; a point is ``{"x", "y", "label"}``, both numbers above 0.
        xlabel: what ``x`` is.
        ylabel: what ``y`` is.
        title: the name of the figure for those who do not see it.
        caption: its caption on the page.
        lines: limits, ``{"label", "x"}`` (upright) or ``{"label", "y"}`` (level) each.

    Returns:
        The figure; resting on a point tells its label and numbers.

    Raises:
        UserError: no groups, a group without points, or a number that is not above 0.

    >>> points = [{"x": 2.0, "y": 0.01, "label": "layer 1"}, {"x": 3.0, "y": 0.1, "label": "layer 2"}]
    >>> scatter([{"label": "linear", "points": points}], "speed", "error").alt
    'error against speed. linear: 2 points, speed from 2 to 3, error from 0.01 to 0.1.'
    """
    canvas.require(groups, "groups", ("label", "points"))
    found: list[tuple[str, list[tuple[float, float, str]]]] = []
    for group in groups:
        canvas.require(group["points"], f"the points of {group['label']!r}", ("x", "y", "label"))
        points = [
            (canvas.number(p["x"], "x"), canvas.number(p["y"], "y"), str(p["label"])) for p in group["points"]
        ]
        if any(min(x, y) <= 0 for x, y, _ in points):
            raise UserError(
                f"a logarithmic scale begins above 0: leave such points of {group['label']!r} out"
            )
        found.append((str(group["label"]), points))
    keys: list[canvas.Key] = [(label, _style(position)) for position, (label, _) in enumerate(found)]
    keys += [
        (str(line["label"]), {"color": INK, "lw": 1.6, "linestyle": canvas.line_across(position)})
        for position, line in enumerate(lines)
    ]
    hover: dict[str, str] = {}

    def draw(narrow: bool) -> Drawing:
        width = canvas.NARROW if narrow else canvas.WIDE
        top = canvas.key_height(width, keys) + 8
        drawing = canvas.new_drawing(width, (280 if narrow else 360) + top)
        axes = canvas.place_axes(drawing, 72, top, 10, 48)
        axes.grid()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for position, line in enumerate(lines):
            along = axes.axvline if "x" in line else axes.axhline
            along(
                line.get("x", line.get("y")),
                color=INK,
                lw=1.6,
                linestyle=canvas.line_across(position),
                zorder=2,
            )
        for position, (label, points) in enumerate(found):
            for number, (x, y, name) in enumerate(points):
                gid = f"point-{position}-{number}"
                axes.plot([x], [y], gid=gid, zorder=3, **_style(position))
                hover[gid] = f"{name}, {label}: {xlabel} {x:.3g}, {ylabel} {y:.3g}"
        for axis in (axes.xaxis, axes.yaxis):
            _named(axis)
        axes.margins(0.06)
        axes.set_xlabel(canvas.clean_label(xlabel))
        axes.set_ylabel(canvas.clean_label(ylabel))
        canvas.draw_key(drawing, keys)
        return drawing

    sentences = []
    for label, points in found:
        xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
        sentences.append(
            f"{label}: {len(points)} point{'s' if len(points) > 1 else ''}, {xlabel} from {min(xs):.3g} to "
            f"{max(xs):.3g}, {ylabel} from {min(ys):.3g} to {max(ys):.3g}."
        )
    sentences += [f"Line: {line['label']}." for line in lines]
    alt = f"{ylabel} against {xlabel}. {' '.join(sentences)}"
    return canvas.compose(draw, title=title, caption=caption, alt=alt, hover=hover)


def _style(position: int) -> dict[str, Any]:
    return {
        "marker": canvas.marker(position),
        "linestyle": "",
        "ms": 8,
        "mec": PAPER,
        "mew": 0.8,
        "mfc": canvas.colour(position),
    }


def _named(axis: Any) -> None:
    """Ticks on a logarithmic axis that may span less than a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axis.get_view_interval()
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 20 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    canvas.plain_powers(axis)
    if len(subs) > 1:
        axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=(), numticks=2))
