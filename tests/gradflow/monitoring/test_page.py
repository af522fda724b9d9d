"""The page of a monitored training: maps of what there is, in words what stands out."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.gradflow.monitoring import page as monitor_page
from layerlab.gradflow.monitoring.monitor import Monitor
from layerlab.gradflow.monitoring.record import Record
from layerlab.lab.report.page import Callout, Figure, KeyFigures, Page, Table, Text, render


def row(gradient: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "Linear",
        "gradient_out": gradient,
        "weight_norm": 2.0,
        "relative_gradient": gradient / 2,
        **more,
    }


def record(snapshots: int = 3) -> Record:
    kept = Record("Net", steps=10 * snapshots)
    for k in range(snapshots):
        rows = {
            "blocks.0": row(1e-6 * (k + 1)),
            "blocks.1": {"kind": "relu", "saturated": 0.5, "dead": 0.1 * k},
            "head": row(0.5, gain=0.25),
        }
        kept.add(10 * k, 0.01, None, rows)
    kept.overhead = {"seconds": 0.03, "training": 1.0, "share": 0.03}
    return kept


@pytest.fixture(scope="module")
def drawn() -> Page:
    return monitor_page.page(record())


def figures(page: Page) -> list[Figure]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, Figure)]


def test_a_map_for_each_measure_that_there_is(drawn: Page) -> None:
    made = figures(drawn)
    assert [figure.alt.partition(",")[0] for figure in made] == [
        "gradient norm at the output",
        "log₁₀ of the gain",
        "gradient norm / weight norm",
        "saturated share",
        "share of dead units",
    ]
    assert "blocks.0 Linear: 1e−06 to 3e−06." in made[0].alt
    assert made[1].alt.endswith("head: −0.602.")


def test_the_ends_of_the_model_are_compared_and_what_stands_out_is_said(drawn: Page) -> None:
    keys, said = drawn.lead
    assert isinstance(keys, KeyFigures) and isinstance(said, Text)
    assert [item.value for item in keys.items] == ["3", "× 6·10⁻⁶", "20%", "3.0 %"]
    assert "0.5 at `head` and 3e-06 at `blocks.0 Linear`" in said.text
    assert "most dead units: `blocks.1 relu`, 20%" in said.text
    assert "`blocks.0 Linear`, 1.5e-06" in said.text


def test_nan_is_told_first_with_the_last_step_without() -> None:
    kept = record()
    kept.add(30, 0.01, "the output of head", {"head": row(float("nan"))})
    page = monitor_page.page(kept)
    callout = next(block for block in page.lead if isinstance(block, Callout))
    assert callout.kind == "violated"
    assert (
        "at step 30, first in the output of head. The snapshot before, of step 20, had none." in callout.text
    )
    table = next(b for section in page.sections for b in section.blocks if isinstance(b, Table))
    assert any(getattr(cell, "text", "") == "not finite" for line in table.rows for cell in line)
    assert "missing" in figures(page)[0].alt
    render(page)


def test_many_snapshots_are_thinned_in_the_drawing_only() -> None:
    page = monitor_page.page(record(1000))
    assert f"2 rows by {monitor_page._COLUMNS} columns" in figures(page)[0].alt
    kept = monitor_page._thinned(1000)
    assert kept[0] == 0 and kept[-1] == 999 and len(kept) == monitor_page._COLUMNS
    assert max(b - a for a, b in pairwise(kept)) <= 9
    assert monitor_page._thinned(5) == [0, 1, 2, 3, 4]


def test_where_nothing_is_dead_a_sentence_does() -> None:
    kept = Record("Net", 1)
    kept.add(0, 0.0, None, {"0": {"kind": "tanh", "saturated": 0.0, "dead": 0.0}})
    page = monitor_page.page(kept)
    assert not figures(page)
    texts = [block.text for section in page.sections for block in section.blocks if isinstance(block, Text)]
    assert texts == [
        "Saturated share: none, in no layer at no watched step.",
        "Dead units: none, in no layer at no watched step.",
    ]


def test_nothing_recorded_is_refused() -> None:
    with pytest.raises(UserError, match="no snapshot"):
        monitor_page.page(Record("Net"))


def test_a_real_training_makes_a_page(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with Monitor(model, every=1) as monitor:
        for _ in range(3):
            with monitor.step():
                model(torch.randn(5, 3)).square().mean().backward()
    html = monitor.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>Training of Sequential</h1>" in html and html.count("<figure") >= 4
    assert not re.search(r"https?://(?!www\.w3\.org)", html)
