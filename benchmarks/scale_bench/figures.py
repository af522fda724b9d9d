"""The figures of the pages: ratios, and growth over edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench_common import words
from bench_common.figures import growth_scales, ratio_figure, standalone

from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import PAPER
from scale_bench import growth
from scale_bench.batches import EDGES, LOADER, MATRICES

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_LABELS = {LOADER: "whole batch", EDGES: "step, edges", MATRICES: "step, matrices"}
_PANELS = (("convert", "conversion"), ("product", "P times 16 columns"), ("batch", "a batch of a GCN"))


def draw(parts: dict[str, Any]) -> dict[str, str]:
    """The figures that the measured parts allow, name -> SVG file."""
    found = {}
    rows = [
        (
            f"{kind.upper()}, {_LABELS[name]}",
            row["ratio"]["processor"],
            1.0 if kind == "gcn" and name == LOADER else None,
        )
        for kind in ("gcn", "gat")
        if kind in parts
        for work in ("whole", "alone")
        for name, row in parts[kind][work].items()
        if name in _LABELS
    ]
    if rows:
        found["benchmarks-scale-ratios"] = standalone(ratio_figure(rows, "torch_geometric"))
    if "scaling" in parts:
        found["benchmarks-scale-growth"] = standalone(_growth(parts["scaling"]))
    return found


def _growth(part: dict[str, Any]) -> str:
    """Measured seconds of processor over edges, and what the fitted model says of each graph."""
    hover: dict[str, str] = {}
    fits = growth.fits(part["rows"])
    dot = {"marker": "o", "ms": 8, "mec": PAPER, "linestyle": ""}
    keys: list[canvas.Key] = [
        ("measured", {**dot, "mfc": canvas.colour(0), "color": canvas.colour(0)}),
        (
            "fitted",
            {
                "marker": "D",
                "ms": 9,
                "mfc": "none",
                "mec": canvas.colour(1),
                "color": canvas.colour(1),
                "linestyle": "",
            },
        ),
    ]

    def draw_panels(narrow: bool) -> Drawing:
        width = canvas.NARROW if narrow else canvas.WIDE
        top, height = canvas.key_height(width, keys) + 8, 240
        drawing = canvas.new_drawing(width, top + len(_PANELS) * height)
        for place, (name, label) in enumerate(_PANELS):
            axes = canvas.place_axes(
                *(drawing, 64, top + place * height, 12, 48 + (len(_PANELS) - 1 - place) * height)
            )
            axes.grid()
            growth_scales(axes)
            edges = [row["edges"] for row in part["rows"]]
            fitted = [growth.predicted(fits[name], row["edges"], row["nodes"]) for row in part["rows"]]
            seconds = [row["seconds"][name] for row in part["rows"]]
            axes.plot(edges, fitted, "D", mfc="none", mec=canvas.colour(1), ms=9, mew=1.5, zorder=3)
            axes.plot(
                *(edges, seconds, "o"), mfc=canvas.colour(0), mec=PAPER, ms=8, zorder=4, gid=f"growth-{name}"
            )
            hover[f"growth-{name}"] = f"{label}: seconds of processor"
            axes.set_ylabel(f"{label}, s")
            axes.set_xlabel("edges")
        canvas.draw_key(drawing, keys)
        return drawing

    alt = " ".join(
        f"{label}: {words.seconds(row['seconds'][name])} at {words.many(row['edges'])} edges and "
        f"{words.many(row['nodes'])} nodes."
        for name, label in _PANELS
        for row in part["rows"]
    )
    return canvas.compose(draw_panels, title="Growth over edges", caption="", alt=alt, hover=hover).svg
