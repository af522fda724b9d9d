"""The front of the page: its numbers are counted, its pictures measured."""

from __future__ import annotations

from typing import Any

import pytest

from layerlab.catalogue import catalogue
from layerlab.lab.report.page import KeyFigures, Pictures
from layerlab.reproduce.front import front
from layerlab.reproduce.theorems import CheckedClaim


def checked(
    claim: str, *, as_expected: bool = True, outcomes: dict[str, float | None] | None = None
) -> CheckedClaim:
    told = [
        {"name": name, "role": "subject", "measured": value, "as_expected": True}
        for name, value in (outcomes or {}).items()
    ]
    caught = [{"name": "broken", "role": "falsifier", "measured": 1.0, "as_expected": as_expected}]
    return CheckedClaim(catalogue()[claim], {"as_expected": as_expected, "outcomes": told + caught})


def finding(model: str, said: float, verdict: str) -> dict[str, Any]:
    accuracy = {"mean": said - 0.05, "single_run_low": said - 0.1, "single_run_high": said}
    return {
        "id": f"experiment.{model}-cora",
        "verdict": verdict,
        "detail": {"document": {"accuracy": said}, "accuracy": accuracy},
    }


def test_the_numbers_are_those_of_the_checks() -> None:
    blocks = front(
        [finding("gcn", 0.6, "holds"), finding("gat", 0.7, "refuted")],
        [
            checked("graph.power"),
            checked("graph.lambda-min", as_expected=False),
            checked("graph.leading-eigenvector-as-printed"),
        ],
    )
    assert isinstance(blocks[0], KeyFigures)
    assert [item.value for item in blocks[0].items] == ["1", "1", "1", "2/3", "1/2"]
    assert blocks[0].items[2].label == "came out otherwise"
    assert isinstance(blocks[1], Pictures)
    (picture,) = blocks[1].figures
    assert "GAT: 95 per cent interval 60 to 70; the document: 70." in picture.alt
    assert "+10.0 points" in picture.caption


def test_every_part_brings_its_picture() -> None:
    ends = {"off": 0.34, "strokes": 0.38, "blocks": 0.07}
    blocks = front(
        [],
        [
            checked("gradflow.product"),
            checked("estimators.variance"),
            checked("segmentation.skips", outcomes={**ends, "blocks": -0.01}),
            checked("segmentation.skips-always-as-printed", outcomes=ends),
        ],
    )
    assert isinstance(blocks[1], Pictures)
    gradients, variance, skips = blocks[1].figures
    # tanh has slope 1 at 0; a sigmoid chain leaves 0, where alone its slope is 1/4.
    assert "tanh: from 1 to 1." in gradients.alt and "sigmoid: from 0.25 to" in gradients.alt
    # At μ = 1/100: μ (1 − μ)³, and μ (1 − μ) (1 − 2 μ)² with the mean as baseline.
    assert "no baseline: from 0.0097 to" in variance.alt and "1 − μ: from 0 to 0." in variance.alt
    assert "\u03bc: from 0.00951 to 0.00951." in variance.alt
    assert "thin strokes: 95 per cent interval 0.34 to 0.38; the document: 0.1." in skips.alt
    assert "coarse blocks: 95 per cent interval -0.01 to 0.07" in skips.alt


def test_what_was_not_run_has_no_picture() -> None:
    assert len(front([], [checked("attention.projection")])) == 1


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (0.3, 0.4, "bring more than the 0.10"),
        (-0.01, 0.07, "bring less than the 0.10 of the document and maybe nothing"),
        (0.02, 0.07, "bring less than the 0.10 of the document."),
        (-0.2, -0.1, "do harm"),
        (-0.05, 0.3, "bring −0.05 to 0.30, which leaves the document's 0.10 open"),
    ],
)
def test_the_picture_of_skips_says_what_was_measured(low: float, high: float, told: str) -> None:
    ends = [
        checked("segmentation.skips", outcomes={"off": low}),
        checked("segmentation.skips-always-as-printed", outcomes={"strokes": high}),
    ]
    (picture,) = front([], ends)[1].figures  # type: ignore[attr-defined]
    assert f"On thin strokes skips {told}" in picture.caption
