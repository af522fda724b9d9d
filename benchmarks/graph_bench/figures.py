"""The figures of the page: ratios by workload, growth over edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_common.figures import growth_scales, ratio_figure, standalone

from graph_bench import targets
from graph_bench.runners import FIELD, WHOLE
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_MARKERS = {"gcn": "o", "gat": "s"}
_TITLES = {"cora": "Cora", "pubmed": "PubMed", "arxiv": "arxiv-sized"}


def draw(parts: dict[str, Any]) -> dict[str, str]:
    """The figures that the measured parts allow, name -> SVG file."""
    found = {}
    if rows := _ratios(parts):
        found["benchmarks-ratios"] = standalone(ratio_figure(rows, "torch_geometric"))
    if kinds := [kind for kind in ("gcn", "gat") if kind in parts.get("growth", {})]:
        found["benchmarks-growth"] = standalone(_growth_figure(parts["growth"], kinds))
    return found


def _ratios(parts: dict[str, Any]) -> list[tuple[str, dict[str, float], float | None]]:
    """Label, ratio with interval, goal; the runner that training uses."""
    goals = {(part, kind): goal for _, part, kind, _, goal in targets.RATIOS}
    rows = []
    for part, title in _TITLES.items():
        for kind in ("gcn", "gat"):
            entry = targets.ratio_of(parts, part, kind, FIELD) or targets.ratio_of(parts, part, kind, WHOLE)
            if entry is not None:
                label = f"{title}, {kind.upper()}"
                rows.append((label, entry["times_faster"], goals.get((part, kind))))
    return rows


def _growth_figure(part: dict[str, Any], kinds: Sequence[str]) -> str:
    hover: dict[str, str] = {}
    panels = (
        ("seconds", "median_seconds", 1.0, "seconds an epoch"),
        ("memory", "above_idle_bytes", 1e9, "peak memory, GB"),
    )
    keys: list[canvas.Key] = [
        (
            f"{kind.upper()}, fitted line",
            {
                "marker": _MARKERS[kind],
                "color": canvas.colour(place),
                "mfc": canvas.colour(place),
                "mec": PAPER,
                "ms": 8,
                "linestyle": "-",
            },
        )
        for place, kind in enumerate(kinds)
    ]

    def draw_panels(narrow: bool) -> Drawing:
        width = canvas.NARROW if narrow else canvas.WIDE
        top = canvas.key_height(width, keys) + 8
        height = 300
        drawing = canvas.new_drawing(width, top + (2 * height if narrow else height))
        for place, (fit_name, field, unit, label) in enumerate(panels):
            left, right = (64, 12) if narrow else (64 + place * width / 2, 12 + (1 - place) * width / 2)
            above = top + (place * height if narrow else 0)
            below = 48 + ((1 - place) * height if narrow else 0)
            axes = canvas.place_axes(drawing, left, above, right, below)
            axes.grid()
            growth_scales(axes)
            for series, kind in enumerate(kinds):
                tone, fit = canvas.colour(series), part[kind][fit_name]
                x = np.array([row["directed_edges"] for row in part[kind]["rows"]], float)
                y = np.array([row[field] for row in part[kind]["rows"]], float) / unit
                line = fit["factor"] * x ** fit["exponent"] / unit
                axes.plot(x, line, color=tone, lw=1.6, zorder=3)
                name = f"{fit_name}-{kind}"
                axes.plot(x, y, _MARKERS[kind], mfc=tone, mec=PAPER, ms=8, gid=name, zorder=4)
                hover[name] = (
                    f"{kind.upper()}: {fit_name} as edges^{fit['exponent']:.2f} ± {fit['error']:.2f}"
                )
            axes.set_xlabel("directed edges")
            axes.set_ylabel(label)
        canvas.draw_key(drawing, keys)
        return drawing

    alt = " ".join(
        f"{kind.upper()}: {name} grow as edges to the power {part[kind][name]['exponent']:.2f}, standard error "
        f"{part[kind][name]['error']:.2f}."
        for kind in kinds
        for name in ("seconds", "memory")
    )
    return canvas.compose(
        draw_panels, title="Growth over edges: seconds and memory", caption="", alt=alt, hover=hover
    ).svg
