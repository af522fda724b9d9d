"""Section 3: verdicts that follow from the numbers, here made up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from layerlab.lab.race import summarise
from layerlab.lab.report.page import Text
from layerlab.reproduce.graph_findings import Raced, difference_finding, document_finding, paper_finding
from layerlab.reproduce.graph_page import comparison_section


def results(
    gat: Sequence[float] = (0.7, 0.8),
    gcn: Sequence[float] = (0.7, 0.8),
    loss: Sequence[float] = (1.0, 1.1),
    **others: Sequence[float],
) -> Raced:
    """A finished race, from made-up accuracies."""
    cells = {
        f"{name}-{seed}": {
            "contestant": name,
            "seed": seed,
            "metrics": {"test_accuracy": accuracy, "test_loss": loss[seed]},
            "parameters": 1,
            "step_seconds": 0.1,
            "seconds": 1.0,
        }
        for name, accuracies in {"gat": gat, "gcn": gcn, **others}.items()
        for seed, accuracy in enumerate(accuracies)
    }
    summary = {**summarise(cells, "test_accuracy"), "losses": summarise(cells, "test_loss")["contestants"]}
    return Raced(summary, cells, "layerlab graph race cora")


@pytest.mark.parametrize(
    ("accuracies", "losses", "verdict"),
    [
        # The document has 0.6515 and 1.0643.
        ((0.60, 0.63, 0.65, 0.67, 0.70), (1.00, 1.03, 1.06, 1.09, 1.12), "holds"),
        ((0.70, 0.705, 0.71, 0.715, 0.72), (1.00, 1.03, 1.06, 1.09, 1.12), "refuted"),
        ((0.55, 0.555, 0.56, 0.565, 0.57), (1.00, 1.03, 1.06, 1.09, 1.12), "refuted"),
        ((0.60, 0.63, 0.65, 0.67, 0.70), (1.20, 1.205, 1.21, 1.215, 1.22), "refuted"),
        ((0.60, 0.63, 0.65, 0.67, 0.70), (0.80, 0.805, 0.81, 0.815, 0.82), "refuted"),
        # Outside the interval of the mean (+- 0.020), inside that of a single run (+- 0.048).
        ((0.6615, 0.6715, 0.6815, 0.6915, 0.7015), (1.00, 1.03, 1.06, 1.09, 1.12), "holds"),
        # Three that happen to lie close together refute nothing, and four that do not pass nothing.
        ((0.70, 0.71, 0.72), (1.00, 1.06, 1.12), "measured"),
        ((0.60, 0.63, 0.67, 0.70), (1.00, 1.03, 1.09, 1.12), "measured"),
    ],
)
def test_a_single_run_is_compared_with_single_runs(
    accuracies: Sequence[float], losses: Sequence[float], verdict: str
) -> None:
    finding = document_finding("gcn", results(gcn=accuracies, gat=accuracies, loss=losses))
    assert finding.verdict == verdict
    assert finding.document == "1.0643 / 0.6515, one run"
    assert f"{len(accuracies)} seeds" in finding.measured
    assert ("too few seeds to tell" in finding.measured) == (verdict == "measured")
    detail = finding.detail["accuracy"]
    assert (
        detail["single_run_low"] < detail["low"] < detail["mean"] < detail["high"] < detail["single_run_high"]
    )


@pytest.mark.parametrize(
    ("differences", "verdict", "measured"),
    [
        ((0.05, 0.06, 0.07), "holds", "+6.0 points, 95 % interval +3.5 to +8.5, 3 of 3 pairs"),
        ((-0.05, -0.06, -0.07), "refuted", "−6.0 points, 95 % interval −8.5 to −3.5, 0 of 3 pairs"),
        (
            (0.05, 0.06, -0.05),
            "measured",
            "+2.0 points, 95 % interval −13.1 to +17.1, 2 of 3 pairs; the interval leaves it open",
        ),
        (
            (0.0, 0.0, 0.0),
            "measured",
            "+0.0 points, 95 % interval +0.0 to +0.0, 0 of 3 pairs; the interval leaves it open",
        ),
    ],
)
def test_a_difference_needs_an_interval_without_zero(
    differences: Sequence[float], verdict: str, measured: str
) -> None:
    gcn = (0.5, 0.5, 0.5)
    gat = [left + right for left, right in zip(gcn, differences, strict=True)]
    finding = difference_finding(results(gat=gat, gcn=gcn, loss=(1, 1, 1)))
    assert finding.verdict == verdict
    assert finding.measured == measured
    assert "15.4 points" in finding.document


@pytest.mark.parametrize(
    ("gat", "gcn", "expected"),
    [
        # Each sd is 7.07 points, so two single runs differ with an sd of 10; 15.42 is 0.54 of those from 10.
        (
            (0.7, 0.8),
            (0.6, 0.7),
            ("moves the GCN by up to 10.0 points (2 seeds)", "deviation of 10.0", "15.4 lies 0.5 of those"),
        ),
        ((0.7, 0.7), (0.6, 0.6), ("deviation of 0.0", "lies inf of those")),
    ],
)
def test_what_two_single_runs_can_tell(
    gat: Sequence[float], gcn: Sequence[float], expected: Sequence[str]
) -> None:
    made_up = results(gat=gat, gcn=gcn)
    section = comparison_section(made_up.results, difference_finding(made_up))
    text = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert "differ by 10.0 points on average" in text
    for phrase in expected:
        assert phrase in text


@pytest.mark.parametrize(
    ("model", "mean", "verdict"),
    [
        # Four runs, of which the mean's interval is +- 0.0018.
        ("gcn", 0.8070, "holds"),
        ("gcn", 0.8060, "measured"),
        ("gcn", 0.8040, "measured"),
        ("gcn", 0.8030, "refuted"),
        ("gat", 0.8220, "holds"),
        ("gat", 0.8180, "refuted"),
        ("sgc", 0.99, "holds"),
        ("sgc", 0.7980, "refuted"),
    ],
)
def test_a_papers_mean_may_be_a_point_higher(model: str, mean: float, verdict: str) -> None:
    values = [mean + off for off in (-0.001, -0.001, 0.001, 0.001)]
    finding = paper_finding(model, results(**{"sgc": (0.5, 0.5), model: values}, loss=(1,) * 4))
    assert finding.verdict == verdict
    told = "; the interval leaves it open" if verdict == "measured" else ""
    assert finding.measured == f"{100 * mean:.1f} % (sd 0.1), 4 seeds{told}"
