"""Small pictures and the row they stand in."""

from __future__ import annotations

import pytest

from layerlab.errors import UserError
from layerlab.lab.report.page import Page, Pictures, Section, Text, render
from layerlab.lab.report.small import small_intervals, small_lines

CURVES = [
    {"label": "up", "x": [1, 2, 3], "y": [1, 10, 100]},
    {"label": "flat", "x": [1, 3], "y": [5, 5], "at": 0},
]
ROWS = [
    {"label": "GCN", "low": 60, "high": 70, "mean": 65, "said": 72},
    {"label": "GAT", "low": 1, "high": 2, "said": None},
]


def lines(**options: object):  # type: ignore[no-untyped-def]
    return small_lines(CURVES, "depth", title="Lines", caption="c", **options)  # type: ignore[arg-type]


def intervals():  # type: ignore[no-untyped-def]
    return small_intervals(ROWS, "accuracy", said="the document", title="Bars", caption="see [one](#one)")


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_curves_are_named_told_and_shown_on_hover(scale: str) -> None:
    figure = lines(scale=scale)
    assert figure.alt == "Against depth. up: from 1 to 100. flat: from 5 to 5."
    assert ">up</text>" in figure.svg and ">flat</text>" in figure.svg
    assert "<title>up: from 1 to 100.</title>" in figure.svg
    assert figure.narrow is None


def test_intervals_stand_beside_what_was_said() -> None:
    figure = intervals()
    assert "GCN: 95 per cent interval 60 to 70; the document: 72." in figure.alt
    assert figure.alt.endswith("GAT: 95 per cent interval 1 to 2.")
    assert figure.svg.count("<title>the document: 72</title>") == 1


@pytest.mark.parametrize("value", [float("nan"), None, "much"])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(UserError, match="finite number"):
        small_lines([{"label": "a", "x": [0], "y": [value]}], "x", title="t", caption="c")
    with pytest.raises(UserError, match="finite number"):
        small_intervals([{**ROWS[0], "low": value}], "x", said="s", title="t", caption="c")


def test_pictures_are_figures_of_the_page() -> None:
    html = render(
        Page(
            "t", "", [Pictures([lines(), intervals()])], [Section("One", "one", [Text("[that](#figure-2)")])]
        )
    )
    assert 'id="figure-1"' in html and 'id="figure-2"' in html and 'class="pictures"' in html
    with pytest.raises(UserError, match="leads nowhere"):
        render(Page("t", "", [Pictures([intervals()])], []))
