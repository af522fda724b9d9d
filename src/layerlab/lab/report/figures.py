"""Figures from plain numbers: matplotlib draws, the page's own colours paint.

Every function takes what a record holds (lists and dicts of numbers, means and intervals included), so that
any old run can be drawn again; it computes no statistics. The same numbers give the same bytes. What colour
tells is told by a marker, a line style or a word as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError
from layerlab.lab.report import canvas
from layerlab.lab.report.canvas import INK, MUTED, PAPER
from layerlab.lab.report.page import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_REFERENCES = ("D", "^", "s", "v", "P", "X")
_DOT = 7.5


def accuracy_strip(
    groups: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]] | None = None,
    xlabel: str = "accuracy, per cent",
    *,
    title: str = "Every seed, mean and interval",
    caption: str = "",
    decimals: int = 1,
) -> Figure:
    """One row a model: a dot for every seed, the mean and its 95 per cent interval below.

    Args:
        groups: ``{"label", "values", "mean", "low", "high"}`` each; a value None (a seed without a result) is
            left out of the dots and counted in the text alternative; ``low`` and ``high`` None (one seed has no
            interval) leave the mean alone.
        reference: figures from elsewhere, ``{"group", "value", "label"}`` each: ``group`` is the label of the
            row in which it is marked, ``label`` says where it is from ("course document").
        xlabel: what the values are, with their unit.
        title: the name of the figure for those who do not see it.
        caption: its caption on the page.
        decimals: decimal places of the numbers that are written.

    Returns:
        The figure.

    Raises:
        UserError: no groups, a group without values, a missing or non-finite number, or a reference to
            a group that is not there.

    >>> figure = accuracy_strip(
    ...     [{"label": "GCN", "values": [81.0, 82.0], "mean": 81.5, "low": 80.2, "high": 82.8}]
    ... )
    >>> figure.alt
    'accuracy, per cent. GCN: mean 81.5, 95 per cent interval 80.2 to 82.8, 2 values from 81.0 to 82.0.'
    """
    canvas.require(groups, "groups", ("label", "values", "mean", "low", "high"))
    references = list(reference or ())
    if references:
        canvas.require(references, "reference", ("group", "value", "label"))
    labels = [str(group["label"]) for group in groups]
    if missing := [entry["group"] for entry in references if str(entry["group"]) not in labels]:
        raise UserError(f"a reference names the group {missing[0]!r}, but there are {', '.join(labels)}")
    dots = [
        [canvas.number(value, "values") for value in group["values"] if value is not None] for group in groups
    ]
    if empty := [label for label, row in zip(labels, dots, strict=True) if not row]:
        raise UserError(f"the group {empty[0]!r} has no values to draw; leave it out")
    spans = [_mean_and_interval(group) for group in groups]
    any_interval = any(ends for _, ends in spans)
    marks = [
        (str(entry["group"]), canvas.number(entry["value"], "value"), str(entry["label"]))
        for entry in references
    ]
    kinds = list(dict.fromkeys(kind for _, _, kind in marks))
    hover: dict[str, str] = {}

    def hollow(kind: str, size: float) -> dict[str, Any]:
        marker = _REFERENCES[kinds.index(kind) % len(_REFERENCES)]
        return {"marker": marker, "mfc": PAPER, "mec": INK, "mew": 1.5, "ms": size}

    keys: list[canvas.Key] = [
        ("one seed", {"marker": "o", "mfc": MUTED, "mec": PAPER, "ms": _DOT}),
        (
            "mean and 95% interval" if any_interval else "mean",
            {"marker": "|", "mec": INK, "mew": 2.6, "ms": 13, "color": INK}
            | {"linestyle": "-" if any_interval else ""},
        ),
        *((kind, hollow(kind, 8)) for kind in kinds),
    ]

    def said(mean: float, ends: tuple[float, ...]) -> str:
        if not ends:
            return f"mean {mean:.{decimals}f}, no interval"
        return (
            f"mean {mean:.{decimals}f}, 95 per cent interval {ends[0]:.{decimals}f} to {ends[1]:.{decimals}f}"
        )

    def draw(narrow: bool) -> Drawing:
        numbers = [
            (f"{mean:.{decimals}f}", f"[{', '.join(f'{end:.{decimals}f}' for end in ends)}]" if ends else "")
            for mean, ends in spans
        ]
        rows = canvas.Rows(narrow, labels, numbers, keys, row=86)
        axes = rows.axes
        low, high = canvas.limits(
            [
                *(value for row in dots for value in row),
                *(value for mean, ends in spans for value in (mean, *ends)),
                *(mark[1] for mark in marks),
            ]
        )
        axes.set_xlim(low, high)
        axes.set_xlabel(canvas.clean_label(xlabel))
        unit = (high - low) / rows.plot_width
        for position, (row, (mean, ends)) in enumerate(zip(dots, spans, strict=True)):
            middle = position + rows.shift
            for index, (x, level) in enumerate(_swarm(row, _DOT * unit)):
                y = middle - (2 + level * _DOT) / rows.row
                style: dict[str, Any] = {"mfc": canvas.colour(position), "mec": PAPER, "mew": 0.7, "ms": _DOT}
                axes.plot([x], [y], "o", gid=f"seed-{position}-{index}", zorder=3, **style)
                hover[f"seed-{position}-{index}"] = f"{labels[position]}, one seed: {x:.{decimals}f}"
            y = middle + 30 / rows.row
            axes.plot([mean], [y], "|", ms=15, mec=INK, mew=2.6, gid=f"mean-{position}", zorder=4)
            hover[f"mean-{position}"] = f"{labels[position]}: {said(mean, ends)}"
            if ends:
                axes.plot(ends, [y, y], "-", color=INK, lw=2, gid=f"interval-{position}", zorder=3)
                hover[f"interval-{position}"] = hover[f"mean-{position}"]
        for index, (group, value, kind) in enumerate(marks):
            middle = labels.index(group) + rows.shift
            top, bottom = middle - 31 / rows.row, middle + 38 / rows.row
            axes.plot([value, value], [top, bottom], color=INK, lw=1, ls=(0, (2, 2)), zorder=2)
            axes.plot([value], [top], linestyle="", gid=f"reference-{index}", zorder=5, **hollow(kind, 9))
            hover[f"reference-{index}"] = f"{kind}, {group}: {value:.{decimals}f}"
        return rows.drawing

    sentences = []
    for label, group, row, (mean, ends) in zip(labels, groups, dots, spans, strict=True):
        several = f"{len(row)} values from {min(row):.{decimals}f} to {max(row):.{decimals}f}"
        sentence = f"{label}: {said(mean, ends)}, {several if len(row) > 1 else 'one value'}"
        if lost := len(group["values"]) - len(row):
            sentence += f", {lost} without a result"
        sentence += "".join(f"; {kind}: {value:.{decimals}f}" for name, value, kind in marks if name == label)
        sentences.append(f"{sentence}.")
    alt = f"{xlabel}. {' '.join(sentences)}"
    return canvas.compose(draw, title=title, caption=caption, alt=alt, hover=hover)


def paired_differences(
    pairs: Sequence[Mapping[str, Any]],
    xlabel: str = "difference in accuracy, points",
    *,
    title: str = "Paired differences",
    caption: str = "",
    decimals: int = 1,
) -> Figure:
    """A forest plot: the mean of paired differences with its 95 per cent interval, against zero.

    A filled square stands for an interval without zero, a hollow one for an interval with zero.

    Args:
        pairs: ``{"label", "mean", "low", "high"}`` each; ``label`` says which minus which ("GAT − GCN").
        xlabel: what the differences are, with their unit.
        title: the name of the figure for those who do not see it.
        caption: its caption on the page.
        decimals: decimal places of the numbers that are written.

    Returns:
        The figure.

    Raises:
        UserError: no pairs, or a missing or non-finite number.

    >>> paired_differences([{"label": "GAT − GCN", "mean": 1.52, "low": 1.1, "high": 1.94}]).alt
    'difference in accuracy, points. GAT − GCN: mean +1.5, 95 per cent interval +1.1 to +1.9, without zero.'
    """
    canvas.require(pairs, "pairs", ("label", "mean", "low", "high"))
    labels = [str(pair["label"]) for pair in pairs]
    spans = [canvas.interval(pair) for pair in pairs]
    hover: dict[str, str] = {}

    def square(clear: bool, position: int | None = None) -> dict[str, Any]:
        tone = MUTED if position is None else canvas.colour(position)
        return {"marker": "s", "ms": 9, "mec": tone, "mew": 2, "mfc": tone if clear else PAPER, "color": tone}

    keys: list[canvas.Key] = [
        ("95% interval without zero", {**square(True), "linestyle": "-"}),
        ("95% interval with zero", {**square(False), "linestyle": "-"}),
    ]

    def signed(value: float) -> str:
        return f"{value:+.{decimals}f}".replace("-", "−")

    sentences = [
        f"{label}: mean {signed(mean)}, 95 per cent interval {signed(low)} to {signed(high)}, "
        f"{'with' if low <= 0 <= high else 'without'} zero."
        for label, (mean, low, high) in zip(labels, spans, strict=True)
    ]

    def draw(narrow: bool) -> Drawing:
        numbers = [(signed(mean), f"[{signed(low)}, {signed(high)}]") for mean, low, high in spans]
        rows = canvas.Rows(narrow, labels, numbers, keys, row=44)
        axes = rows.axes
        axes.set_xlim(*canvas.limits([0.0, *(value for span in spans for value in span)]))
        axes.set_xlabel(canvas.clean_label(xlabel))
        axes.axvline(0, color=INK, lw=1.4, zorder=2)
        for position, (mean, low, high) in enumerate(spans):
            style = square(not low <= 0 <= high, position)
            y = position + rows.shift
            axes.plot(
                [low, high], [y, y], "-", lw=2.4, color=style["color"], gid=f"interval-{position}", zorder=3
            )
            axes.plot([mean], [y], linestyle="", gid=f"mean-{position}", zorder=4, **style)
            hover[f"interval-{position}"] = hover[f"mean-{position}"] = sentences[position]
        return rows.drawing

    return canvas.compose(
        draw, title=title, caption=caption, alt=f"{xlabel}. {' '.join(sentences)}", hover=hover
    )


def _mean_and_interval(group: Mapping[str, Any]) -> tuple[float, tuple[float, ...]]:
    """The mean of a group and the two ends of its interval; none where it has none."""
    if group["low"] is None and group["high"] is None:
        return canvas.number(group["mean"], "mean"), ()
    mean, *ends = canvas.interval(group)
    return mean, tuple(ends)


def _swarm(values: Sequence[float], diameter: float) -> list[tuple[float, float]]:
    """Places for dots that do not cover each other: each value with its level (0, 0.5, -0.5, 1, ...).

    Where there are more dots than room, they are pressed together and overlap.
    """
    placed: list[tuple[float, float]] = []
    for value in sorted(values):
        taken: set[float] = set()
        for x, level in reversed(placed):
            if value - x >= diameter:
                break
            taken.update((level - 0.5, level, level + 0.5))
        level, step = 0.0, 0
        while level in taken:
            step += 1
            level = (step + 1) // 2 * (0.5 if step % 2 else -0.5)
        placed.append((value, level))
    highest = max(abs(level) for _, level in placed)
    squeeze = min(1.0, 2.2 / highest) if highest else 1.0
    return [(value, level * squeeze) for value, level in placed]
