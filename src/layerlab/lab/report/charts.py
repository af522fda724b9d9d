"""Curves and histograms from plain numbers, by the rules of `layerlab.lab.report.figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from layerlab.errors import UserError
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, MUTED, PAPER
from layerlab.lab.report.page import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


def line_chart(
    curves: Sequence[Mapping[str, Any]],
    ylabel: str,
    *,
    xlabel: str = "epoch",
    title: str = "Curves",
    caption: str = "",
    decimals: int = 1,
    scale: Literal["linear", "log"] = "linear",
    xscale: Literal["linear", "log"] = "linear",
    marks: Sequence[Mapping[str, Any]] = (),
) -> Figure:
    """Curves, each with a band where one is given.

    Args:
        curves: ``{"label", "x", "mean", "low", "high"}`` each; the last four are lists of one length. None
            leaves a gap. ``low`` and ``high`` may be left out: no band then.
        ylabel: what the values are, with their unit.
        xlabel: what ``x`` is.
        title: the name of the figure for those who do not see it.
        caption: its caption on the page.
        decimals: decimal places of the numbers that are written; on a logarithmic scale, digits.
        scale: of the values; on a logarithmic one, what is not above 0 leaves a gap.
        xscale: of ``x``; on a logarithmic one all are above 0, and powers of 2 are named.
        marks: upright lines, ``{"label", "x"}`` each: a depth that was predicted, a limit.

    Returns:
        The figure.

    Raises:
        UserError: no curves, an empty curve, lists of different lengths, something that is no number, or an ``x`` that
            a logarithmic scale has no place for.

    >>> line_chart([{"label": "GCN", "x": [1, 2], "mean": [20.0, 60.0]}], "accuracy").alt
    'accuracy against epoch. GCN: from 20.0 at epoch 1 to 60.0 at epoch 2.'
    """
    canvas.require(curves, "curves", ("label", "x", "mean"))
    labels = [str(curve["label"]) for curve in curves]
    series = [
        {name: _line(curve, name, scale) for name in ("x", "mean", "low", "high") if name in curve}
        for curve in curves
    ]
    for label, lines in zip(labels, series, strict=True):
        if len({len(line) for line in lines.values()}) != 1 or ("low" in lines) != ("high" in lines):
            raise UserError(
                f"the lists of the curve {label!r} differ in length, or one of low and high is missing"
            )
        if not any(math.isfinite(value) for value in lines["mean"]):
            raise UserError(f"the curve {label!r} has no values to draw; leave it out")
    if xscale == "log" and min(x for lines in series for x in lines["x"]) <= 0:
        raise UserError("a logarithmic scale begins above 0; draw the curves over a linear one")
    keys: list[canvas.Key] = [
        (label, {**_stroke(position), "marker": canvas.marker(position)})
        for position, label in enumerate(labels)
    ]
    if marks:
        canvas.require(marks, "marks", ("label", "x"))
    upright = [(str(mark["label"]), canvas.number(mark["x"], "x")) for mark in marks]
    keys += [
        (label, {"color": INK, "lw": 1.6, "linestyle": canvas.line_across(n)})
        for n, (label, _) in enumerate(upright)
    ]
    hover: dict[str, str] = {}

    def written(value: float) -> str:
        return f"{value:.{decimals}f}" if scale == "linear" else f"{value:.{max(1, decimals)}g}"

    sentences = []
    for label, lines in zip(labels, series, strict=True):
        known = [(x, y) for x, y in zip(lines["x"], lines["mean"], strict=True) if math.isfinite(y)]
        (first, start), (last, end) = known[0], known[-1]
        sentences.append(
            f"{label}: from {written(start)} at {xlabel} {first:g} to {written(end)} at {xlabel} {last:g}."
        )

    sentences += [f"{label} at {xlabel} {x:g}." for label, x in upright]

    def draw(narrow: bool) -> Drawing:
        from matplotlib.ticker import MaxNLocator

        drawing, axes = _framed(narrow, keys, 66 if scale == "log" else 54)
        if scale == "log":
            axes.set_yscale("log")
            canvas.plain_powers(axes.yaxis)
        for number, (label, x) in enumerate(upright):
            axes.axvline(
                x, color=INK, lw=1.6, linestyle=canvas.line_across(number), gid=f"mark-{number}", zorder=2
            )
            hover[f"mark-{number}"] = f"{label}: {xlabel} {x:g}"
        for position, lines in enumerate(series):
            if "low" in lines:
                axes.fill_between(
                    lines["x"], lines["low"], lines["high"], color=canvas.colour(position), alpha=0.16, lw=0
                )
            # The markers of different curves stand at different places, so that none hides another.
            every = max(1, len(lines["x"]) // 6)
            marks = list(range(position * every // max(1, len(series)), len(lines["x"]), every))
            axes.plot(lines["x"], lines["mean"], gid=f"curve-{position}", zorder=3, **_stroke(position))
            axes.plot(
                [lines["x"][mark] for mark in marks],
                [lines["mean"][mark] for mark in marks],
                **{**_stroke(position), "linestyle": ""},
                marker=canvas.marker(position),
                gid=f"marks-{position}",
                zorder=4,
            )
            hover[f"curve-{position}"] = hover[f"marks-{position}"] = sentences[position]
        axes.margins(x=0.01)
        if xscale == "log":
            canvas.powers_of_two(axes)
        else:
            whole = all(x.is_integer() for line in series for x in line["x"])
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=whole))
        axes.set_xlabel(canvas.clean_label(xlabel))
        axes.set_ylabel(canvas.clean_label(ylabel))
        canvas.draw_key(drawing, keys)
        return drawing

    alt = f"{ylabel} against {xlabel}. {' '.join(sentences)}"
    return canvas.compose(draw, title=title, caption=caption, alt=alt, hover=hover)


def _stroke(position: int) -> dict[str, Any]:
    tone = canvas.colour(position)
    return {
        "color": tone,
        "lw": 2,
        "linestyle": canvas.line(position),
        "ms": 7,
        "mec": PAPER,
        "mfc": tone,
    }


def _line(curve: Mapping[str, Any], name: str, scale: str) -> list[float]:
    values = [
        math.nan if value is None and name != "x" else canvas.number(value, name) for value in curve[name]
    ]
    if name == "x" or scale == "linear":
        return values
    return [value if value > 0 else math.nan for value in values]


def _framed(narrow: bool, keys: Sequence[canvas.Key], left: float) -> tuple[Drawing, Axes]:
    """A drawing with its key above and axes below, with a grid of levels."""
    width = canvas.NARROW if narrow else canvas.WIDE
    top = canvas.key_height(width, keys) + 8
    drawing = canvas.new_drawing(width, (260 if narrow else 340) + top)
    axes = canvas.place_axes(drawing, left, top, 8, 48)
    axes.grid(axis="y")
    return drawing, axes


def histogram(
    edges: Sequence[float],
    mass: Sequence[float],
    xlabel: str,
    ylabel: str,
    *,
    label: str,
    title: str = "Histogram",
    caption: str = "",
    scale: Literal["linear", "log"] = "linear",
) -> Figure:
    """Bars over bins that touch each other.

    Args:
        edges: ends of the bins, ascending, one more than there are bins.
        mass: height of each bar, at least 0.
        xlabel: what the bins are of, with its unit.
        ylabel: what the heights are.
        label: what the bars are, for the key.
        title: the name of the figure for those who do not see it.
        caption: its caption on the page.
        scale: of the bins: on a logarithmic one all edges are above 0.

    Returns:
        The figure; its text alternative tells the fullest bins.

    Raises:
        UserError: no bins, ends that do not ascend, a height below 0, or lengths that do not fit.

    >>> histogram([0, 1, 2], [0.25, 0.75], "size", "share", label="sizes").alt
    'share by size, 2 bins from 0 to 2. sizes: fullest from 1 to 2 (0.75), then from 0 to 1 (0.25).'
    """
    ends = [canvas.number(edge, "edges") for edge in edges]
    heights = [canvas.number(value, "mass") for value in mass]
    if not heights or len(ends) != len(heights) + 1:
        raise UserError(f"expected one edge more than bars, got {len(ends)} edges, {len(heights)} bars")
    if any(b <= a for a, b in pairwise(ends)) or min(heights) < 0:
        raise UserError("expected ascending edges and heights of at least 0; mend the record")
    if scale == "log" and ends[0] <= 0:
        raise UserError(f"a logarithmic scale begins above 0, got an edge at {ends[0]:g}")
    hover: dict[str, str] = {}

    def place(position: int) -> str:
        return f"from {ends[position]:g} to {ends[position + 1]:g} ({heights[position]:.3g})"

    def draw(narrow: bool) -> Drawing:
        drawing, axes = _framed(narrow, [(label, {"marker": "s", "mfc": canvas.colour(0), "mec": MUTED})], 60)
        if scale == "log":
            axes.set_xscale("log")
            canvas.plain_powers(axes.xaxis)
        for position, height in enumerate(heights):
            axes.bar(
                *(ends[position], height, ends[position + 1] - ends[position]),
                align="edge",
                color=canvas.colour(0),
                edgecolor=PAPER,
                linewidth=0.5,
                gid=f"bar-{position}",
            )
            hover[f"bar-{position}"] = place(position)
        axes.set_xlim(ends[0], ends[-1])
        axes.set_xlabel(canvas.clean_label(xlabel))
        axes.set_ylabel(canvas.clean_label(ylabel))
        canvas.draw_key(drawing, [(label, {"marker": "s", "mfc": canvas.colour(0), "mec": MUTED, "ms": 9})])
        return drawing

    fullest = sorted(range(len(heights)), key=lambda position: -heights[position])[:3]
    said = ", then ".join(place(position) for position in fullest)
    alt = f"{ylabel} by {xlabel}, {len(heights)} bins from {ends[0]:g} to {ends[-1]:g}. {label}: fullest {said}."
    return canvas.compose(draw, title=title, caption=caption, alt=alt, hover=hover)
