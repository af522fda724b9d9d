"""What the races on Cora say of the figures that the documents and the papers print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layerlab.lab.race import CellResult
from layerlab.lab.statistics import estimate, single_run_interval
from layerlab.reproduce import verdicts
from layerlab.reproduce.chapter import Finding

# What the solutions print (3.3 and 3.5), one run each.
DOCUMENT = {"gcn": {"loss": 1.0643, "accuracy": 0.6515}, "gat": {"loss": 1.0200, "accuracy": 0.8057}}
# Test accuracy on Cora's public split: Kipf and Welling 2017; Veličković et al. 2018; Wu et al. 2019.
PAPERS = {"gcn": 0.815, "gat": 0.830, "sgc": 0.810}
LABELS = {"gcn": "GCN", "gat": "GAT", "sgc": "SGC", "mlp": "MLP"}


@dataclass(frozen=True)
class Raced:
    """A finished race: its summary, its cells, and the command that runs it again."""

    results: Mapping[str, Any]
    cells: Mapping[str, CellResult]
    command: str


def document_finding(model: str, raced: Raced) -> Finding:
    """Does the document's single run look like one of ours?"""
    results = raced.results
    accuracies = results["contestants"][model]["values"]
    losses = results["losses"][model]["values"]
    said = DOCUMENT[model]
    accuracy, loss = estimate(accuracies), estimate(losses)
    low, high = single_run_interval(accuracies)
    loss_low, loss_high = single_run_interval(losses)
    judged = verdicts.of_single_run([(said["accuracy"], accuracies), (said["loss"], losses)])
    return Finding(
        f"experiment.{model}-cora",
        f"{LABELS[model]} on Cora by the course's protocol: loss and accuracy after 100 epochs",
        f"{said['loss']:.4f} / {said['accuracy']:.4f}, one run",
        f"{loss.mean:.3f} (sd {loss.sd:.3f}) / {accuracy.mean:.3f} (sd {accuracy.sd:.3f}), {accuracy.n} seeds"
        + judged.told,
        judged.verdict,
        raced.command,
        {
            "document": said,
            "accuracy": vars(accuracy) | {"single_run_low": low, "single_run_high": high},
            "loss": vars(loss) | {"single_run_low": loss_low, "single_run_high": loss_high},
        },
    )


def difference_finding(raced: Raced) -> Finding:
    """GAT minus GCN, paired: same split, same seed."""
    results = raced.results
    # The GAT races first, so differences are GAT minus GCN.
    (pair,) = (pair for pair in results["differences"] if (pair["left"], pair["right"]) == ("gat", "gcn"))
    mean, low, high = pair["mean"], pair["low"], pair["high"]
    points = f"{100 * mean:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    said = DOCUMENT["gat"]["accuracy"] - DOCUMENT["gcn"]["accuracy"]
    judged = verdicts.of_interval(low, high)
    return Finding(
        "experiment.gat-beats-gcn",
        "Is the GAT more accurate than the GCN by the course's protocol?",
        f"yes, by {100 * said:.1f} points (one run each, on two different splits)",
        f"{points.replace('-', '−')}, {pair['wins']} of {pair['n']} pairs{judged.told}",
        judged.verdict,
        raced.command,
        {"document": said, **{key: pair[key] for key in ("mean", "low", "high", "sd", "n", "wins")}},
    )


def validation_finding(raced: Raced) -> Finding:
    """The course's "test" result beside its last validation line: one split, evaluated twice."""
    apart = [
        abs(cell["metrics"]["test_accuracy"] - cell["metrics"]["validation_accuracy"])
        for cell in raced.cells.values()
    ]
    return Finding(
        "experiment.test-is-validation",
        "Is the course's test result a test? Largest difference to the last validation accuracy, over all runs",
        "printed as the test result",
        f"{max(apart):.4f} over {len(apart)} runs",
        "refuted" if max(apart) == 0 else "measured",
        raced.command,
        {"largest": max(apart), "n": len(apart)},
    )


def paper_finding(model: str, raced: Raced) -> Finding:
    """Our mean within a point of the paper's, or above."""
    entry = raced.results["contestants"][model]
    said = PAPERS[model]
    judged = verdicts.of_interval(entry["low"], entry["high"], said - 0.01)
    return Finding(
        f"experiment.public-split.{model}",
        f"{LABELS[model]} on Cora's public split: test accuracy",
        f"{100 * said:.1f} % in the paper",
        f"{100 * entry['mean']:.1f} % (sd {100 * entry['sd']:.1f}), {entry['n']} seeds{judged.told}",
        judged.verdict,
        raced.command,
        {"paper": said, **{key: entry[key] for key in ("mean", "sd", "low", "high", "n")}},
    )
