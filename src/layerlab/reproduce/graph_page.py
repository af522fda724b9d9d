"""The chapter on graphs as it stands on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from layerlab.lab.report import race as drawn
from layerlab.lab.report.page import (
    Block,
    Callout,
    Cell,
    Code,
    Column,
    KeyFigure,
    Section,
    Table,
    Text,
)
from layerlab.reproduce import verdicts
from layerlab.reproduce.chapter import Finding
from layerlab.reproduce.graph_findings import DOCUMENT, LABELS, PAPERS, Raced


def key_figures(
    by_id: Mapping[str, Finding], course: Mapping[str, Any], public: Mapping[str, Any]
) -> list[KeyFigure]:
    detail = by_id["experiment.gat-beats-gcn"].detail
    best = max(PAPERS, key=lambda model: public["contestants"][model]["mean"])
    return [
        KeyFigure(
            f"{100 * detail['mean']:+.1f}".replace("-", "−"),
            "points, GAT over GCN, paired",
            f"the document: {100 * detail['document']:+.1f}",
        ),
        KeyFigure(
            f"{100 * course['contestants']['gcn']['mean']:.1f} %",
            "GCN, course protocol",
            f"the document: {100 * DOCUMENT['gcn']['accuracy']:.1f} %, one run",
        ),
        KeyFigure(
            f"{100 * public['contestants'][best]['mean']:.1f} %",
            f"{LABELS[best]}, public split",
            f"its paper: {100 * PAPERS[best]:.1f} %",
        ),
    ]


def story(by_id: Mapping[str, Finding]) -> list[Block]:
    rows: list[list[str | Cell]] = [
        [finding.question, finding.document, finding.measured, Cell(verdict=finding.verdict)]
        for finding in by_id.values()
    ]
    table = Table(
        "What the documents and the papers say, and what was measured here",
        [Column("Question"), Column("Said"), Column("Measured"), Column("Verdict")],
        rows,
        [
            "A single run **holds** when it lies where 95 per cent of our single runs would (mean ± t · "
            f"sd · √(1 + 1/n)), of which at least {verdicts.FEWEST} are needed to tell; a paper's mean when the 95 per "
            "cent interval of ours ends at most one point below it; a difference when its 95 per cent interval "
            "excludes 0 on the side that was said. Where an interval leaves it open, the verdict is **measured**.",
        ],
    )
    return [table]


def course_section(course: Raced, findings: list[Finding]) -> Section:
    reference = [
        {"group": LABELS[model], "value": 100 * said["accuracy"], "label": "the document"}
        for model, said in DOCUMENT.items()
    ]
    rows: list[list[str | Cell]] = []
    for model, finding in zip(DOCUMENT, findings, strict=True):
        for metric, scale, decimals in (("accuracy", 100, 2), ("loss", 1, 3)):
            entry = finding.detail[metric]
            unit = "accuracy, %" if metric == "accuracy" else "loss"
            rows.append(
                [
                    f"{LABELS[model]}, {unit}",
                    drawn.number(scale * DOCUMENT[model][metric], decimals),
                    drawn.number(scale * entry["mean"], decimals),
                    drawn.number(scale * entry["sd"], decimals),
                    drawn.interval(scale * entry["low"], scale * entry["high"], decimals),
                    drawn.interval(
                        scale * entry["single_run_low"], scale * entry["single_run_high"], decimals
                    ),
                ]
            )
    seeds = course.results["contestants"]["gcn"]["n"]
    headings = ("", "document", "mean", "sd", "95 % interval of the mean", "95 % of single runs")
    return Section(
        "The course's experiment",
        "course",
        [
            Text(
                "140 random nodes of Cora train (not balanced over classes), the other 2,568 validate; "
                "Adam, learning rate 0.01, weight decay 5e-4, 100 epochs, the last epoch counts. A seed "
                "draws the split, the weights and the dropout; both models get the same split."
            ),
            drawn.strip(course.results, reference, LABELS),
            Table(
                f"The document's single runs beside {seeds} seeds",
                [Column(name, "right" if position else "left") for position, name in enumerate(headings)],
                rows,
            ),
            drawn.curves(course.cells, LABELS),
            Code(course.command, "Run this experiment alone"),
        ],
    )


def errata(finding: Finding) -> list[Block]:
    return [
        Callout(
            "refuted" if finding.verdict == "refuted" else "measured",
            "**The test results of the GCN and the GAT** (Solutions, questions 3.3 and 3.5): each equals the last "
            "validation line to the digit.",
        ),
        Text(
            f"Counterexample: under the course's protocol the two differ by {finding.measured} at most, since the same "
            "2,568 nodes are evaluated twice. Corrected: a test needs nodes that decided nothing, as on the "
            "[public split](#public)."
        ),
        Text(
            "In the GCN's log the line of epoch 98 repeats that of epoch 97: printed values, which nothing here can "
            "measure again."
        ),
    ]


def comparison_section(results: Mapping[str, Any], finding: Finding) -> Section:
    detail = finding.detail
    gcn = results["contestants"]["gcn"]["values"]
    spread = 100 * (max(gcn) - min(gcn))
    # Of the difference of two single runs on independent splits; it is what the document's difference is made of.
    scatter = 100 * math.hypot(results["contestants"]["gcn"]["sd"], results["contestants"]["gat"]["sd"])
    luck = 100 * abs(detail["document"] - detail["mean"]) / scatter if scatter else math.inf
    word = {
        "holds": "The direction holds",
        "refuted": "The direction is refuted",
        "measured": "The interval holds zero: no direction can be told",
    }[finding.verdict]
    return Section(
        "Does the GAT beat the GCN?",
        "comparison",
        [
            Callout(
                finding.verdict,
                f"{word}: {finding.measured}. The document's difference is {100 * detail['document']:.1f} points.",
            ),
            Text("**What the document's comparison did wrong:**"),
            Text(
                "**Two different splits.** The notebook draws a new permutation before each model. Another seed, "
                f"which draws another split, moves the GCN by up to {spread:.1f} points ({len(gcn)} seeds). Two single "
                f"runs on two splits differ by {100 * detail['mean']:.1f} points on average with a standard deviation "
                f"of {scatter:.1f}; the document's {100 * detail['document']:.1f} lies {luck:.1f} of those from it."
            ),
            Text("**One run each.** Without a spread nobody can tell luck from merit."),
            Text(
                "**The test is the validation.** The printed test result equals the last validation line to the digit: "
                "the same 2,568 nodes are evaluated twice, and nothing was held out."
            ),
            Text(
                "**The log.** The GCN's line of epoch 98 repeats that of epoch 97, and epoch 99 is printed twice."
            ),
            Text(
                "**The reason given**, that attention lets the GAT “learn more features”, is tested by nothing it ran."
            ),
            *drawn.differences(results, LABELS),
        ],
    )


def public_section(public: Raced) -> Section:
    reference = [
        {"group": LABELS[model], "value": 100 * value, "label": "the paper"}
        for model, value in PAPERS.items()
    ]
    return Section(
        "The papers' protocol",
        "public",
        [
            Text(
                "Planetoid's public split: 20 training nodes a class, 500 validate, 1,000 are tested "
                "once, at the epoch that validation chose (SGC: the last epoch). The MLP sees the same "
                "features and no edge. SGC is convex: its seeds differ in the last digits only."
            ),
            drawn.strip(public.results, reference, LABELS),
            drawn.standings(public.results, LABELS, ("its paper", PAPERS)),
            *drawn.differences(public.results, LABELS),
            Code(public.command, "Run this experiment alone"),
        ],
    )


def settings_section(races: Mapping[str, Raced]) -> Section:
    columns = {
        f"{LABELS[cell['contestant']]}, {protocol}": cell["settings"]
        for protocol, raced in races.items()
        for cell in raced.cells.values()
    }
    return drawn.settings_section(columns, {name: name for name in columns})
