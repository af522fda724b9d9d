"""Scatter plots and curves over lengths."""

from __future__ import annotations

import pytest

from layerlab.errors import UserError
from layerlab.lab.report import canvas, charts
from layerlab.lab.report.scatter import scatter

POINTS = [{"x": 0.5, "y": 0.01, "label": "first"}, {"x": 8.0, "y": 0.3, "label": "second"}]


def test_points_lines_and_words() -> None:
    figure = scatter(
        [{"label": "linear", "points": POINTS}, {"label": "nystrom", "points": POINTS[:1]}],
        "speed",
        "error",
        title="Error",
        lines=[{"label": "as fast", "x": 1.0}, {"label": "allowed", "y": 0.02}],
    )
    assert "linear: 2 points, speed from 0.5 to 8, error from 0.01 to 0.3." in figure.alt
    assert "nystrom: 1 point," in figure.alt and "Line: allowed." in figure.alt
    assert "second, linear: speed 8, error 0.3" in figure.svg and figure.narrow is not None


def test_a_long_key_stays_within_the_drawing() -> None:
    words = [
        "linear",
        "linear-relu",
        "linear-random",
        "hedgehog",
        "nystrom",
        "linformer",
        "as fast as softmax",
    ]
    keys: list[canvas.Key] = [(word, {}) for word in [*words, "error allowed, 2 %"]]
    columns = canvas._key_columns(canvas.WIDE, keys)
    # As matplotlib spreads them: the first columns take one more.
    lines, longer = divmod(len(keys), columns)
    widths, start = 0.0, 0
    for column in range(columns):
        stop = start + lines + (column < longer)
        widths += max(canvas._SAMPLE + canvas._WORD * len(word) for word, _ in keys[start:stop])
        start = stop
    assert start == len(keys) and widths <= canvas.WIDE and columns > 1


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], "at least one of groups"),
        ([{"label": "a", "points": []}], "at least one of the points of 'a'"),
        ([{"label": "a", "points": [{"x": 0.0, "y": 1.0, "label": ""}]}], "begins above 0"),
        ([{"label": "a", "points": [{"x": 1.0, "y": float("nan"), "label": ""}]}], "finite number for 'y'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(groups: list[dict[str, object]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        scatter(groups, "x", "y")


def test_curves_over_lengths_name_powers_of_two() -> None:
    curve = {"label": "linear", "x": [32, 64, 128, 1024], "mean": [0.1, 0.5, 1.0, 4.0]}
    figure = charts.line_chart([curve], "speed", xlabel="tokens", xscale="log", scale="log")
    assert "1,024" in figure.svg and ">128<" in figure.svg
    with pytest.raises(UserError, match="begins above 0"):
        charts.line_chart([{**curve, "x": [0, 1, 2, 3]}], "speed", xscale="log")
