"""The figures: drawn from plain numbers, in the page's colours, with their words, and refused when empty."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from sample_figures import CURVES, GROUPS, HOSTILE, PAIRS, REFERENCE, YLABEL, strip

import layerlab
from layerlab.errors import UserError
from layerlab.lab.report import canvas, charts, figures
from layerlab.lab.report.page import Figure, Page, render

SVG = "{http://www.w3.org/2000/svg}"


@cache
def drawings() -> tuple[Figure, ...]:
    return strip(), figures.paired_differences(PAIRS), charts.line_chart(CURVES, YLABEL)


@pytest.mark.parametrize("field", ["label", "xlabel", "title", "reference"])
def test_nothing_hostile_gets_into_a_figure(field: str) -> None:
    label = HOSTILE + "\x00\x1b\ud800" + "long " * 30
    groups = [{**GROUPS[0], "label": label if field == "label" else "GCN"}]
    reference = [
        {"group": groups[0]["label"], "value": 81, "label": label if field == "reference" else "paper"}
    ]
    options = {field: label} if field in {"xlabel", "title"} else {}
    figure = figures.accuracy_strip(groups, reference, **options)  # type: ignore[arg-type]
    for drawing in (figure.svg, figure.narrow):
        assert drawing is not None
        assert {element.tag.rpartition("}")[2] for element in ET.fromstring(drawing).iter()} <= {
            *("svg", "title", "desc", "g", "path", "use", "defs", "text", "clipPath", "rect")
        }
    assert "<script>alert" not in render(Page("t", "", [figure], []))


def test_another_process_and_a_persons_own_settings_draw_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 30\naxes.grid: True\nlines.linewidth: 9\n", encoding="utf-8"
    )
    code = "import sys, json; from layerlab.lab.report import figures; " + (
        "sys.stdout.buffer.write(figures.paired_differences(json.loads(sys.argv[1])).svg.encode())"
    )
    paths = os.pathsep.join(
        filter(None, (str(Path(layerlab.__file__).parents[1]), os.environ.get("PYTHONPATH")))
    )
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path)}
    command = [sys.executable, "-c", code, json.dumps(PAIRS)]
    done = subprocess.run(command, capture_output=True, env=environment, check=True, timeout=120)
    assert done.stdout.decode() == drawings()[1].svg


def test_drawing_leaves_the_persons_settings_alone() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "text.color": "red"}):
        assert figures.paired_differences(PAIRS) == drawings()[1]
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("kind", [0, 1, 2], ids=["strip", "differences", "curves"])
def test_figures_follow_the_pages_colours_and_carry_their_words(kind: int, narrow: bool) -> None:
    block = drawings()[kind]
    root = ET.fromstring(block.narrow if narrow else block.svg)
    text = ET.tostring(root, encoding="unicode")
    assert re.findall(r"#[0-9a-f]{6}\b", text) == []
    assert "var(--ink)" in text
    assert "var(--series-2)" in text
    assert "DejaVu" not in text
    assert "<style" not in text
    names = [root.find(f"{SVG}{name}") for name in ("title", "desc")]
    assert [name.text for name in names if name is not None][1] == block.alt
    assert "GCN" in " ".join(element.text or "" for element in root.iter(f"{SVG}text"))


def test_every_seed_mean_and_reference_is_drawn_with_its_value() -> None:
    root = ET.fromstring(drawings()[0].svg)
    tips = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert sum(tip.startswith("GCN, one seed") for tip in tips) == 4
    assert "GAT, one seed: 83.1" in tips
    assert "GCN: mean 81.5, 95 per cent interval 81.0 to 82.0" in tips
    assert "document, GCN: 65.2" in tips or "document, GCN: 65.1" in tips
    assert "1 without a result" in drawings()[0].alt
    assert "paper: 83.0" in drawings()[0].alt


def test_one_seed_is_a_mean_without_an_interval() -> None:
    one = {"label": "SGC", "values": [80.0], "mean": 80.0, "low": None, "high": None}
    figure = figures.accuracy_strip([GROUPS[0], one])
    tips = [element.text or "" for element in ET.fromstring(figure.svg).iter(f"{SVG}title")]
    assert tips.count("SGC: mean 80.0, no interval") == 1
    assert "SGC: mean 80.0, no interval, one value." in figure.alt
    assert sum(tip.startswith("GCN: mean") for tip in tips) == 2
    assert "[80.0" not in figure.svg and "mean and 95% interval" in figure.svg
    # A key to what is not drawn would mislead.
    assert "95% interval" not in figures.accuracy_strip([one]).svg


def test_equal_values_do_not_hide_each_other() -> None:
    places = figures._swarm([1.0] * 4 + [2.0], 0.1)
    assert len(set(places)) == 5
    near = sorted(level for value, level in places if value == 1.0)
    assert all(b - a >= 1 for a, b in pairwise(near))
    assert max(abs(level) for _, level in figures._swarm([0.0] * 500, 0.1)) <= 2.2


def test_an_interval_with_zero_is_told_from_one_without() -> None:
    alt = figures.paired_differences(PAIRS).alt
    assert "GAT − GCN: mean +1.5, 95 per cent interval +1.1 to +1.9, without zero." in alt
    assert "GCN − SGC: mean −0.1, 95 per cent interval −0.4 to +0.2, with zero." in alt
    lone = [figures.paired_differences([pair]).svg for pair in PAIRS]
    hollow = [svg.count("fill: var(--paper); stroke: var(--series-1)") for svg in lone]
    assert hollow == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.accuracy_strip([]), "at least one of groups"),
        (lambda: figures.paired_differences([]), "at least one of pairs"),
        (lambda: charts.line_chart([], YLABEL), "at least one of curves"),
        (lambda: figures.accuracy_strip([{"label": "a"}]), "has no 'values'"),
        (lambda: figures.accuracy_strip([{**GROUPS[0], "values": []}]), "'GCN' has no values"),
        (lambda: figures.accuracy_strip([{**GROUPS[0], "values": [None]}]), "'GCN' has no values"),
        (
            lambda: figures.accuracy_strip([{**GROUPS[0], "mean": None}]),
            "finite number for 'mean', got None|finite",
        ),
        (lambda: figures.accuracy_strip([{**GROUPS[0], "values": [float("nan")]}]), "finite number"),
        (lambda: figures.accuracy_strip([{**GROUPS[0], "values": ["81"]}]), "finite number"),
        (lambda: figures.accuracy_strip([{**GROUPS[0], "low": 90}]), "low <= mean <= high"),
        (
            lambda: figures.accuracy_strip(GROUPS, [{**REFERENCE[0], "group": "SGC"}]),
            "'SGC', but there are GCN, GAT",
        ),
        (lambda: charts.line_chart([{**CURVES[0], "x": [1]}], YLABEL), "differ in length"),
        (
            lambda: charts.line_chart([{"label": "a", "x": [1], "mean": [1], "low": [1]}], YLABEL),
            "low and high",
        ),
        (lambda: charts.line_chart([{"label": "a", "x": [], "mean": []}], YLABEL), "no values"),
        (lambda: charts.line_chart([{"label": "a", "x": [1], "mean": [None]}], YLABEL), "no values"),
    ],
)
def test_a_figure_of_nothing_is_refused(call: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()  # type: ignore[operator]


def test_one_value_and_equal_values_can_be_drawn() -> None:
    one = {"label": "a", "values": [0.0], "mean": 0.0, "low": 0.0, "high": 0.0}
    ET.fromstring(figures.accuracy_strip([one]).svg)
    ET.fromstring(figures.paired_differences([one]).svg)
    ET.fromstring(charts.line_chart([{"label": "a", "x": [1], "mean": [0.5]}], YLABEL).svg)


def test_series_beyond_the_colours_still_differ() -> None:
    curves = [{"label": f"m{k}", "x": [1, 2], "mean": [k, k + 1]} for k in range(12)]
    strokes = [charts._stroke(k)["linestyle"] for k in range(12)]
    looks = {(canvas.colour(k), str(strokes[k]), canvas.marker(k)) for k in range(12)}
    assert len(looks) == 12
    assert charts.line_chart(curves, YLABEL).alt.count("from") == 12


def test_long_names_are_cut_in_the_drawing_and_whole_in_the_words() -> None:
    name = "a model whose name goes on and on and never seems to come to an end at all"
    figure = figures.paired_differences([{**PAIRS[0], "label": name}])
    for drawing in (figure.svg, figure.narrow):
        texts = [element.text or "" for element in ET.fromstring(str(drawing)).iter(f"{SVG}text")]
        assert max(map(len, texts)) <= 30
        assert any(text.endswith("…") for text in texts)
    assert name in figure.alt


def test_a_logarithmic_chart_leaves_out_what_has_no_logarithm_and_marks_what_it_is_told() -> None:
    curve = {"label": "energy", "x": [0, 1, 2, 3], "mean": [1.0, 0.01, 0.0, 1e-6]}
    mark = {"label": "half is left", "x": 1.5}
    figure = charts.line_chart([curve], "energy", xlabel="K", scale="log", decimals=2, marks=[mark])
    assert figure.alt == "energy against K. energy: from 1 at K 0 to 1e-06 at K 3. half is left at K 1.5."
    drawn = ET.fromstring(figure.svg)
    assert any("half is left: K 1.5" in (title.text or "") for title in drawn.iter(f"{SVG}title"))
    with pytest.raises(UserError, match="no values"):
        charts.line_chart([{**curve, "mean": [0.0, 0.0, None, -1.0]}], "energy", scale="log")


def test_a_logarithmic_axis_within_one_power_of_ten_holds_numbers() -> None:
    for low, high, wanted in ((0.037, 0.041, "0.038"), (0.021, 0.09, "0.05"), (0.2, 300.0, "100")):
        curve = {"label": "norm", "x": [0, 1], "mean": [low, high]}
        figure = charts.line_chart([curve], "norm", scale="log", decimals=2)
        texts = [element.text for element in ET.fromstring(figure.svg).iter(f"{SVG}text")]
        assert wanted in texts
    assert "20" not in texts


def test_a_histogram_has_a_bar_a_bin() -> None:
    figure = charts.histogram([1, 10, 100], [3, 1], "size", "components", label="components", scale="log")
    titles = [title.text or "" for title in ET.fromstring(figure.svg).iter(f"{SVG}title")]
    assert "from 1 to 10 (3)" in titles and "from 10 to 100 (1)" in titles
    for edges, mass, match in (
        ([0, 1], [], "one edge more"),
        ([0, 1, 1], [1, 1], "ascending"),
        ([0, 1], [-1], "ascending"),
        ([0, 1], [math.nan], "finite"),
    ):
        with pytest.raises(UserError, match=match):
            charts.histogram(edges, mass, "x", "y", label="a")
    with pytest.raises(UserError, match="above 0"):
        charts.histogram([0, 1], [1], "x", "y", label="a", scale="log")
