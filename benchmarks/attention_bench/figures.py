"""The figures of the page: seconds against n with the crossover, and ratios with their goals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench_common import words
from bench_common.figures import plain_ticks, ratio_figure, standalone

from attention_bench import goals
from attention_bench.contestants import MODES, OURS, PLAIN, SOFTMAX
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_MARKERS = {OURS: "o", PLAIN: "s", SOFTMAX: "D"}


def draw(parts: dict[str, Any]) -> dict[str, str]:
    """The figures that the measured parts allow, name -> SVG file."""
    found = {}
    if rows := goals.ratios(parts):
        found["benchmarks-attention-ratios"] = standalone(ratio_figure(rows, SOFTMAX))
    if "lengths" in parts:
        found["benchmarks-attention-lengths"] = standalone(lengths_figure(parts["lengths"]["modes"]))
    return found


def lengths_figure(modes: dict[str, Any]) -> str:
    """Seconds of a forward pass against n, one panel a mode, the crossover as a line."""
    hover: dict[str, str] = {}
    keys: list[canvas.Key] = [
        (name, {**_style(place, name), "ms": 8, "linestyle": "-"}) for place, name in enumerate(_MARKERS)
    ]
    keys.append(("crossover of layerlab and softmax", {"color": INK, "linestyle": "--", "lw": 1.4}))

    def draw_panels(narrow: bool) -> Drawing:
        width = canvas.NARROW if narrow else canvas.WIDE
        top = canvas.key_height(width, keys) + 8
        height = 320
        drawing = canvas.new_drawing(width, top + (2 * height if narrow else height))
        for place, mode in enumerate(MODES):
            left, right = (64, 12) if narrow else (64 + place * width / 2, 12 + (1 - place) * width / 2)
            above = top + 22 + (place * height if narrow else 0)
            below = 48 + ((1 - place) * height if narrow else 0)
            axes = canvas.place_axes(drawing, left, above, right, below)
            axes.grid()
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(mode, loc="left", fontsize=13, color=MUTED)
            rows = modes[mode]["rows"]
            x = [row["n"] for row in rows]
            for series, name in enumerate(_MARKERS):
                y = [row["runners"][name]["median_seconds"] for row in rows]
                axes.plot(x, y, color=canvas.colour(series), lw=1.6, zorder=3)
                gid = f"{mode}-{series}"
                axes.plot(x, y, linestyle="", ms=8, gid=gid, zorder=4, **_style(series, name))
                hover[gid] = f"{name}, {mode}: {words.seconds(y[-1])} at {x[-1]:,} tokens"
            length = modes[mode]["crossover"][OURS]["length"]
            if length is not None:
                axes.axvline(length, color=INK, lw=1.4, linestyle="--", zorder=2)
                axes.annotate(
                    f"n = {length:,.0f}",
                    (length, 0.97),
                    xycoords=("data", "axes fraction"),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="top",
                    color=INK,
                )
            axes.set_xlabel("tokens n")
            axes.set_ylabel("seconds, forward")
            plain_ticks(axes.yaxis)
            axes.set_yticks([10.0**power for power in range(-5, 2)])
            axes.set_ylim(*_range(modes))
            axes.set_xticks(x[::2])
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.xaxis.set_minor_formatter(lambda value, _: "")
        canvas.draw_key(drawing, keys)
        return drawing

    title = "Seconds of a forward pass against the number of tokens"
    return canvas.compose(draw_panels, title=title, caption="", alt=_alt(modes), hover=hover).svg


def _style(place: int, name: str) -> dict[str, Any]:
    tone = canvas.colour(place)
    return {"marker": _MARKERS[name], "color": tone, "mfc": tone, "mec": PAPER}


def _range(modes: dict[str, Any]) -> tuple[float, float]:
    found: Sequence[float] = [
        runner["median_seconds"]
        for part in modes.values()
        for row in part["rows"]
        for runner in row["runners"].values()
    ]
    return min(found) / 1.6, max(found) * 2.5


def _alt(modes: dict[str, Any]) -> str:
    sentences = []
    for mode, part in modes.items():
        last = part["rows"][-1]
        times = ", ".join(
            f"{name} {words.seconds(row['median_seconds'])}" for name, row in last["runners"].items()
        )
        length = part["crossover"][OURS]["length"]
        where = "nowhere" if length is None else f"from {length:,.0f} tokens on"
        sentences.append(
            f"{mode}: layerlab is faster than the softmax {where}; at {last['n']:,} tokens {times}."
        )
    return " ".join(sentences)
