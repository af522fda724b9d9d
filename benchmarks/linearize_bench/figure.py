"""The figure: predicted against measured error, one point a swap."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any


def predicted_against_measured(rows: Sequence[dict[str, Any]], mechanisms: Sequence[str]) -> str:
    """An SVG with both axes logarithmic, the diagonal, and the band of a factor of 2."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    swaps = [swap for row in rows for swap in row["swaps"]]
    numbers = [swap[key] for swap in swaps for key in ("predicted", "measured")]
    low, high = min(numbers) / 1.5, max(numbers) * 1.5
    with mpl.rc_context({"svg.hashsalt": "linearize", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(5.6, 5.0), layout="constrained")
        axes = figure.subplots()
        ends = [low, high]
        axes.fill_between(
            ends, [low / 2, high / 2], [low * 2, high * 2], color="0.9", label="within a factor of 2"
        )
        axes.plot(ends, ends, color="0.6", linewidth=0.8)
        for name, marker in zip(mechanisms, "os^Dv*", strict=True):
            chosen = [swap for swap in swaps if swap["mechanism"] == name]
            axes.plot(
                [swap["measured"] for swap in chosen],
                [swap["predicted"] for swap in chosen],
                marker,
                markersize=4,
                alpha=0.75,
                label=name,
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            xlabel="measured relative error of the output",
            ylabel="predicted, to first order",
        )
        axes.legend(loc="upper left", frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
