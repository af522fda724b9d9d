"""Section 3 of the documents: GCN against GAT by the course's protocol, then by the papers'."""

from __future__ import annotations

import shlex

from layerlab.graph.racing import race_run
from layerlab.lab.report.race import cells_of
from layerlab.reproduce import graph_findings as found
from layerlab.reproduce import graph_page as page
from layerlab.reproduce.chapter import Amount, ChapterResult, Options, Step
from layerlab.reproduce.graph_findings import Raced

# Protocol -> seconds of one cell on one core, by model; the models race in this order.
_RACES = {
    "course": {"gat": 0.6, "gcn": 0.3},
    "public": {"gat": 3.3, "gcn": 0.4, "sgc": 0.1, "mlp": 0.3},
}
_TITLES = {"course": "Cora, course protocol", "public": "Cora, public split"}


def steps(amount: Amount) -> list[Step]:
    """Both races."""
    return [Step(_TITLES[protocol], _RACES[protocol], count) for protocol, count in _seeds(amount).items()]


def _seeds(amount: Amount) -> dict[str, int]:
    return {"course": amount.seeds, "public": amount.papers or amount.seeds}


def chapter(options: Options) -> ChapterResult:
    """Race by both protocols and tell what came out."""
    course, public = (_race(options, protocol) for protocol in _RACES)
    findings = [
        found.document_finding("gcn", course),
        found.document_finding("gat", course),
        found.difference_finding(course),
        found.validation_finding(course),
        *[found.paper_finding(model, public) for model in found.PAPERS],
    ]
    by_id = {finding.id: finding for finding in findings}
    return ChapterResult(
        findings,
        page.key_figures(by_id, course.results, public.results),
        page.story(by_id),
        [
            page.course_section(course, findings[:2]),
            page.comparison_section(course.results, by_id["experiment.gat-beats-gcn"]),
            page.public_section(public),
            page.settings_section({"course": course, "public": public}),
        ],
        page.errata(by_id["experiment.test-is-validation"]),
    )


def _race(options: Options, protocol: str) -> Raced:
    models, seeds = list(_RACES[protocol]), _seeds(options.amount)[protocol]
    command = _rerun(protocol, models, seeds)
    run, summary = race_run(
        "cora",
        models,
        range(seeds),
        out=options.out / f"cora-{protocol}",
        protocol=protocol,
        workers=options.workers,
        command=command,
        on_cell=options.told(_TITLES[protocol]),
    )
    # Not the run's own command: that of a quick look names fewer seeds than the folder has after it was widened.
    return Raced(summary, cells_of(run, summary), shlex.join(command))


def _rerun(protocol: str, models: list[str], seeds: int) -> list[str]:
    return [
        *["layerlab", "graph", "race", "cora", "--models", ",".join(models)],
        *["--protocol", protocol, "--seeds", str(seeds)],
    ]
