"""Small pictures for the front of a report: one thing to see in each, its names beside the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, MUTED, PAPER
from layerlab.lab.report.page import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_WIDTH, _HEIGHT = 360, 176


def small_lines(
    curves: Sequence[Mapping[str, Any]],
    xlabel: str,
    *,
    title: str,
    caption: str,
    scale: Literal["linear", "log"] = "linear",
) -> Figure:
    """Curves, each named where it ends, or above a point of it.

    Args:
        curves: ``{"label", "x", "y"}`` each, the last two lists of one length, above 0 on a logarithmic scale; ``at``,
            the position above which the name stands, for those whose ends are close together.
        xlabel: what ``x`` is.
        title: the name of the picture for those who do not see it.
        caption: its caption on the page.
        scale: of the values.

    Returns:
        The figure, of one width.

    Raises:
        UserError: no curves, or something that is no finite number.

    >>> small_lines([{"label": "a", "x": [0, 1], "y": [2, 3]}], "depth", title="t", caption="c").alt
    'Against depth. a: from 2 to 3.'
    """
    canvas.require(curves, "curves", ("label", "x", "y"))
    series = [
        ([canvas.number(v, "x") for v in c["x"]], [canvas.number(v, "y") for v in c["y"]]) for c in curves
    ]
    labels = [canvas.clean_label(curve["label"]) for curve in curves]
    told = [f"{label}: from {y[0]:.3g} to {y[-1]:.3g}." for label, (_, y) in zip(labels, series, strict=True)]
    hover: dict[str, str] = {}

    def draw(narrow: bool) -> Drawing:
        beside = [label for label, curve in zip(labels, curves, strict=True) if "at" not in curve]
        drawing, axes = _framed(52, 7.8 * max(map(len, beside), default=1) + 12)
        if scale == "log":
            axes.set_yscale("log")
            canvas.plain_powers(axes.yaxis)
        else:
            axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y")
        for place, (label, (x, y)) in enumerate(zip(labels, series, strict=True)):
            tone = canvas.colour(place)
            axes.plot(x, y, color=tone, lw=2.2, linestyle=canvas.line(place), gid=f"curve-{place}")
            at = curves[place].get("at")
            where = (x[-1], y[-1]) if at is None else (x[at], y[at])
            shift: dict[str, Any] = (
                {"xytext": (6, 0), "va": "center"} if at is None else {"xytext": (4, 5), "va": "bottom"}
            )
            axes.annotate(label, where, textcoords="offset points", color=INK, **shift)
            hover[f"curve-{place}"] = told[place]
        axes.margins(x=0, y=0.08)
        axes.set_xlabel(xlabel)
        return drawing

    alt = f"Against {xlabel}. {' '.join(told)}"
    return replace(canvas.compose(draw, title=title, caption=caption, alt=alt, hover=hover), narrow=None)


def small_intervals(
    rows: Sequence[Mapping[str, Any]], xlabel: str, *, said: str, title: str, caption: str
) -> Figure:
    """Intervals below each other, with what was said elsewhere as a hollow diamond.

    Args:
        rows: ``{"label", "low", "high", "said"}`` each, ``said`` None where nothing was; ``mean`` if there is one.
        xlabel: what the values are, with their unit.
        said: who said it, for the words.
        title: the name of the picture for those who do not see it.
        caption: its caption on the page.

    Returns:
        The figure, of one width.

    Raises:
        UserError: no rows, or something that is no finite number.

    >>> row = {"label": "GCN", "low": 1, "high": 3, "said": 4}
    >>> small_intervals([row], "accuracy", said="the document", title="t", caption="c").alt
    'accuracy. GCN: 95 per cent interval 1 to 3; the document: 4.'
    """
    canvas.require(rows, "rows", ("label", "low", "high", "said"))
    spans = [(canvas.number(row["low"], "low"), canvas.number(row["high"], "high")) for row in rows]
    marks = [None if row["said"] is None else canvas.number(row["said"], "said") for row in rows]
    labels = [canvas.clean_label(row["label"]) for row in rows]
    told = [
        f"{label}: 95 per cent interval {low:.3g} to {high:.3g}"
        + ("." if mark is None else f"; {said}: {mark:.3g}.")
        for label, (low, high), mark in zip(labels, spans, marks, strict=True)
    ]
    hover: dict[str, str] = {}

    def draw(narrow: bool) -> Drawing:
        drawing, axes = _framed(8.2 * max(map(len, labels)) + 16, 10)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        everything = [*(v for span in spans for v in span), *(mark for mark in marks if mark is not None)]
        low, high = canvas.limits(everything)
        axes.set_xlim(min(low, 0.0) if low < 0.2 * high else low, high)
        axes.locator_params(axis="x", nbins=5)
        for place, (label, (left, right), mark) in enumerate(zip(labels, spans, marks, strict=True)):
            axes.annotate(
                label, (0, place), (-8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", va="center", color=INK,
            )  # fmt: skip
            tone = canvas.colour(place)
            axes.plot(
                [left, right], [place, place], color=tone, lw=7, solid_capstyle="butt", gid=f"row-{place}"
            )
            if "mean" in rows[place]:
                axes.plot([rows[place]["mean"]], [place], "|", ms=15, mec=INK, mew=2.4)
            if mark is not None:
                axes.plot(
                    [mark],
                    [place],
                    linestyle="",
                    marker="D",
                    ms=9,
                    mfc=PAPER,
                    mec=INK,
                    mew=1.6,
                    gid=f"said-{place}",
                )
                hover[f"said-{place}"] = f"{said}: {mark:.3g}"
            hover[f"row-{place}"] = told[place]
        axes.set_xlabel(xlabel)
        return drawing

    alt = f"{xlabel}. {' '.join(told)}"
    return replace(canvas.compose(draw, title=title, caption=caption, alt=alt, hover=hover), narrow=None)


def _framed(left: float, right: float) -> tuple[Drawing, Axes]:
    drawing = canvas.new_drawing(_WIDTH, _HEIGHT)
    axes = canvas.place_axes(drawing, left, 8, right, 44)
    axes.tick_params(colors=MUTED)
    return drawing, axes
