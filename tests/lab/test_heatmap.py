"""Heat maps: each value in its colour and its words, the missing crossed out, nothing drawn of nothing."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from sample_figures import HOSTILE

from layerlab.errors import UserError
from layerlab.lab.report import heatmap
from layerlab.lab.report.heatmap import heat_map
from layerlab.lab.report.page import Figure, Page, render

SVG = "{http://www.w3.org/2000/svg}"
# The ends of the sequential colours.
DARKEST, LIGHTEST = heatmap._shades("linear")[0], heatmap._shades("linear")[-1]


def field(values: list[list[float | None]], **changes: object) -> Figure:
    names = {
        "rows": [f"r{k}" for k in range(len(values))],
        "columns": [str(100 * k) for k in range(len(values[0]) if values else 0)],
    }
    return heat_map(values, **{**names, **changes})  # type: ignore[arg-type]


def tips(figure: Figure) -> list[str]:
    """What the cells tell, of the drawing for a wide page, without the title of the drawing."""
    return [e.text or "" for e in ET.fromstring(figure.svg).iter(f"{SVG}title")][1:]


def fills(figure: Figure) -> dict[str, str]:
    """What a cell tells -> its colour."""
    groups = (e for e in ET.fromstring(figure.svg).iter(f"{SVG}g") if e.find(f"{SVG}title") is not None)
    return {
        g.findtext(f"{SVG}title", ""): re.findall('fill: ([^;"]+)', ET.tostring(g, encoding="unicode"))[0]
        for g in groups
    }


def texts(svg: str | None) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg or "").iter(f"{SVG}text")]


def test_each_cell_tells_its_value_and_takes_its_colour() -> None:
    figure = field([[0.0, 1.0], [0.5, 0.25]], unit="share")
    assert tips(figure) == ["r0, 0: 0", "r0, 100: 1", "r1, 0: 0.5", "r1, 100: 0.25"]
    colours = fills(figure)
    assert colours["r0, 0: 0"] == DARKEST and colours["r0, 100: 1"] == LIGHTEST
    assert len(set(colours.values())) == 4
    assert "share" in texts(figure.svg)


def test_neighbours_of_one_shade_are_one_cell_with_their_range() -> None:
    figure = field([[1.0, 1.01, 1.02, 9.0, 1.0]])
    assert tips(figure) == ["r0, 0 to 200: 1 to 1.02", "r0, 300: 9", "r0, 400: 1"]


def test_on_a_logarithmic_scale_equal_ratios_are_equal_steps_and_zero_is_grey() -> None:
    figure = field([[1e-8, 1e-4, 1.0, 0.0, -2.0]], scale="log")
    colours = fills(figure)
    middle = heatmap._shades("log")[heatmap._SHADES // 2]
    assert [colours[f"r0, {100 * k}: {v}"] for k, v in enumerate(("1e−08", "0.0001", "1"))] == [
        DARKEST,
        middle,
        LIGHTEST,
    ]
    assert colours["r0, 300 to 400: −2 to 0"] == "var(--muted)"
    assert "0 or below" in texts(figure.svg) and "0 or below" in texts(figure.narrow)
    assert "0 or below" not in texts(field([[0.0, 1.0]]).svg)


def test_a_diverging_scale_has_zero_in_its_middle() -> None:
    colours = fills(field([[-1.0, 0.0, 4.0]], scale="diverging"))
    shades = heatmap._shades("diverging")
    assert colours["r0, 200: 4"] == shades[-1]
    assert shades.index(colours["r0, 0: −1"]) == heatmap._SHADES * 3 // 8
    assert shades.index(colours["r0, 100: 0"]) == heatmap._SHADES // 2


def test_shades_grow_lighter_so_that_greys_and_the_colour_blind_tell_them() -> None:
    def lightness(tone: str) -> float:
        r, g, b = (int(tone[k : k + 2], 16) for k in (1, 3, 5))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    assert all(lightness(a) < lightness(b) for a, b in pairwise(heatmap._shades("linear")))


def test_limits_fix_the_ends_and_hold_what_is_beyond() -> None:
    colours = fills(field([[-3.0, 0.5, 7.0]], limits=(0, 1)))
    shades = heatmap._shades("linear")
    assert list(colours.values()) == [shades[0], shades[heatmap._SHADES // 2], shades[-1]]
    assert fills(field([[None]], limits=(0, 1))) == {"r0, 0: missing": "var(--paper)"}


def test_missing_values_are_crossed_out_and_counted() -> None:
    figure = field([[1.0, None, None, 2.0]], xlabel="step")
    assert fills(figure)["r0, 100 to 200: missing"] == "var(--paper)"
    assert "missing" in texts(figure.svg) and "missing" not in texts(field([[1.0]]).svg)
    assert "2 missing." in figure.alt and "(step)" in figure.alt
    crosses = list(ET.fromstring(figure.svg).iter(f"{SVG}use"))
    assert len(crosses) - len(list(ET.fromstring(field([[1.0, 2.0, 2.0, 2.0]]).svg).iter(f"{SVG}use"))) == 3


def test_the_words_name_the_ends_and_each_of_a_few_rows() -> None:
    figure = field([[1.0, 5.0], [-2.0, -2.0]], unit="gain")
    assert figure.alt == (
        "gain, 2 rows by 2 columns. Least −2 at r1, 0; most 5 at r0, 100. r0: 1 to 5. r1: −2."
    )
    assert "r12:" not in field([[1.0]] * 13).alt


def test_long_names_lose_what_they_share_and_then_their_middle() -> None:
    names = [f"model.encoder.layers.{k}.attention.self.output.dense" for k in range(3)]
    assert heatmap._short_names(names, 60) == names
    assert heatmap._short_names(names, 40) == [f"{k}.attention.self.output.dense" for k in range(3)]
    short = heatmap._short_names(names, 16)
    assert short == [f"{k}.atten…ut.dense" for k in range(3)]
    drawn = texts(field([[1.0]] * 3, rows=names).narrow)
    assert len({text for text in drawn if "dense" in text}) == 3
    assert heatmap._short_names(["a" * 30], 10) == ["aaaa…aaaaa"]


def test_only_as_many_columns_are_named_as_have_room() -> None:
    figure = field([[float(k) for k in range(300)]])
    named = [text for text in texts(figure.svg) if text.isdigit() and int(text) >= 100]
    assert 5 <= len(named) <= 20
    assert len([t for t in texts(figure.narrow) if t.isdigit() and int(t) >= 100]) < len(named)


def test_nothing_hostile_gets_into_it() -> None:
    name = HOSTILE + "\x00\x1b\ud800" + "long " * 60
    figure = field([[1.0]], rows=[name], columns=[name], unit=name, xlabel=name, title=name)
    assert "<script>alert" not in render(Page("t", "", [figure], []))


def test_it_is_drawn_alike_each_time_in_the_pages_colours() -> None:
    figure = field([[1.0, None], [3.0, 4.0]])
    assert figure == field([[1.0, None], [3.0, 4.0]])
    for svg in (figure.svg, figure.narrow or ""):
        assert "var(--ink)" in svg and "#010101" not in svg and "#020202" not in svg


@pytest.mark.parametrize(
    ("value", "scale"), [(3.0, "linear"), (3.0, "log"), (0.0, "diverging"), (0.0, "linear")]
)
def test_a_single_value_can_be_drawn(value: float, scale: str) -> None:
    ET.fromstring(field([[value]], scale=scale).svg)


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        ([], {}, "at least one row"),
        ([[]], {}, "at least one row"),
        ([[1.0]], {"rows": ["a", "b"]}, "2 rows of 1 values.*got 1 rows of 1"),
        ([[1.0], [1.0, 2.0]], {}, "2 rows of 1 values.*of 1, 2"),
        ([[None]], {}, "all are missing"),
        ([[0.0]], {"scale": "log"}, "all are missing"),
        ([[math.nan]], {}, "finite number"),
        ([["1"]], {}, "finite number"),
        ([[1.0]], {"scale": "root"}, "scales linear, log, diverging"),
        ([[1.0]], {"limits": (1, 1)}, "ascend"),
        ([[1.0]], {"limits": (0, 1), "scale": "log"}, "above 0"),
    ],
)
def test_a_map_of_nothing_is_refused(
    values: list[list[float | None]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        field(values, **changes)
