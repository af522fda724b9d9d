"""Figures of a page as SVG files that follow light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from bench_common import words
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

MARGIN = 12


def standalone(svg: str) -> str:
    """An SVG element of the report as a file of its own: with the page's colours, light and dark, and a size.

    >>> "prefers-color-scheme: dark" in standalone('<svg viewBox="0 0 10 20"><path style="fill: var(--ink)" /></svg>')
    True
    """
    style = resources.files("layerlab.lab.report").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (
        "".join(line for line in block.splitlines() if line.strip().startswith("--"))
        for block in re.findall(r":root \{\n(.*?)\n\s*\}", style, re.DOTALL)[:2]
    )
    # Fonts run over two lines, of which the second is lost above: one plain family instead.
    light = re.sub(r"--(?:gutter|mono|serif|sans):[^;]*;?", "", light)
    css = (
        f":root{{{_compact(light)}--sans:system-ui,sans-serif}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_compact(dark)}}}}}"
        "svg{background:var(--paper)}"
    )
    # Written in full for the query: renderers read it with and without the space.
    css = css.replace("prefers-color-scheme:dark", "prefers-color-scheme: dark")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found is not None
    # A margin, since the drawing goes up to its edges.
    width, height = (float(side) + 2 * MARGIN for side in found.groups())
    box = f'width="{width:g}" height="{height:g}" viewBox="{-MARGIN} {-MARGIN} {width:g} {height:g}"'
    opened = svg.replace(found[0], box, 1)
    head, closing, rest = opened.partition(">")
    return f"{head}{closing}<style>{css}</style>{rest}\n"


def _compact(variables: str) -> str:
    return re.sub(r"\s*([:;,])\s*", r"\1", variables.strip())


def ratio_figure(rows: Sequence[tuple[str, dict[str, float], float | None]], peer: str) -> str:
    """Ratios of times with their intervals, and goals: label, ratio, goal."""
    hover: dict[str, str] = {}
    dot: dict[str, Any] = {
        "marker": "s",
        "ms": 9,
        "mec": MUTED,
        "mfc": MUTED,
        "color": MUTED,
        "linestyle": "-",
    }
    goal_mark: dict[str, Any] = {"marker": "D", "ms": 8, "mec": INK, "mfc": PAPER, "mew": 1.5}
    keys: list[canvas.Key] = [("ratio of medians, 95% interval", dot), ("goal", goal_mark)]

    def draw_rows(narrow: bool) -> Drawing:
        numbers = [
            (
                words.significant(r["ratio"]),
                f"[{words.significant(r['low'])}, {words.significant(r['high'])}]",
            )
            for _, r, _ in rows
        ]
        plot = canvas.Rows(narrow, [label for label, _, _ in rows], numbers, keys, row=44)
        axes = plot.axes
        values = [1.0, *(v for _, r, goal in rows for v in (r["low"], r["high"], goal or r["ratio"]))]
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 1.15, max(values) * 1.25)
        plain_ticks(axes.xaxis)
        axes.set_xlabel(f"times faster than {peer}, logarithmic")
        axes.axvline(1, color=INK, lw=1.4, zorder=2)
        for position, (label, ratio, goal) in enumerate(rows):
            y, tone = position + plot.shift, canvas.colour(position)
            axes.plot([ratio["low"], ratio["high"]], [y, y], "-", lw=2.4, color=tone, zorder=3)
            axes.plot([ratio["ratio"]], [y], "s", ms=9, mec=tone, mfc=tone, gid=f"ratio-{position}", zorder=4)
            hover[f"ratio-{position}"] = f"{label}: {words.span(ratio)}"
            if goal is not None:
                axes.plot([goal], [y], linestyle="", gid=f"goal-{position}", zorder=5, **goal_mark)
                hover[f"goal-{position}"] = f"{label}: goal {goal:g}"
        return plot.drawing

    alt = " ".join(
        f"{label}: {words.span(ratio)} times{'' if goal is None else f', goal {goal:g}'}."
        for label, ratio, goal in rows
    )
    title = f"Times faster than {peer}"
    return canvas.compose(draw_rows, title=title, caption="", alt=alt, hover=hover).svg


def plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10 ... as numbers, not as powers."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: "")


def growth_scales(axes: Any) -> None:
    """Both logarithmic: below counts as `words.many` tells them, at the side plain numbers."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: words.many(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    plain_ticks(axes.yaxis)
