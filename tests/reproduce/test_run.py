"""`layerlab.reproduce`: resumable, widened, refused in one line; also from the command line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from reproducing import COURSE_CELLS, PUBLIC_CELLS, TWO, Shown, quickly, words

from layerlab.errors import UserError
from layerlab.graph import experiments
from layerlab.graph.theorems import CLAIMS
from layerlab.reproduce import Step, reproduce


@dataclass
class Reproduced:
    out: Path
    page: str
    summary: dict[str, Any]
    shown: Shown
    trained: list[int]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Reproduced:
    """A tiny reproduction that was interrupted once: 2 seeds, 2 epochs."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    shown, trained = Shown(), []
    fit = experiments.fit

    def counted(*arguments: Any, **options: Any) -> Any:
        trained[-1] += 1
        return fit(*arguments, **options)

    with quickly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "fit", counted)
        trained.append(0)
        with pytest.raises(KeyboardInterrupt):
            reproduce(
                out,
                display=Shown(stop_after=3),
                only=["graph"],
                amount=TWO,
                jobs=1,
                command=["layerlab", "reproduce"],
            )
        assert not (out / "report.html").exists()
        trained.append(0)
        plans: list[tuple[Sequence[Step], int]] = []
        page, summary = reproduce(
            out,
            display=shown,
            only=["graph"],
            amount=TWO,
            jobs=1,
            on_plan=lambda steps, jobs: plans.append((steps, jobs)),
        )
    assert page == out / "report.html"
    ((steps, jobs),) = plans
    assert [step.title for step in steps] == ["claims", "Cora, course protocol", "Cora, public split"]
    assert jobs == 1
    return Reproduced(out, page.read_text(encoding="utf-8"), summary, shown, trained)


def test_an_interrupted_reproduction_goes_on(reproduced: Reproduced) -> None:
    assert reproduced.trained == [3, COURSE_CELLS + PUBLIC_CELLS - 3]
    assert len(reproduced.shown.cells) == COURSE_CELLS + PUBLIC_CELLS
    assert reproduced.shown.steps == [
        ("claims", len(CLAIMS), 1),
        ("Cora, course protocol", 2, 2),
        ("Cora, public split", 4, 2),
    ]
    # What was checked before the interruption is told, and not checked again.
    assert sorted(reproduced.shown.checked) == sorted(claim.id for claim in CLAIMS)


def test_every_experiment_is_a_run_of_its_own(reproduced: Reproduced) -> None:
    entries = {entry.name for entry in reproduced.out.iterdir()}
    assert entries == {"run.json", "report.html", "claims", "cora-course", "cora-public"}
    meta = json.loads((reproduced.out / "run.json").read_text(encoding="utf-8"))
    assert meta["command"] == "layerlab reproduce"
    assert (meta["results"]["chapters"], meta["results"]["seeds"]) == (["graph"], 2)
    assert meta["results"] == json.loads(json.dumps(reproduced.summary))
    course = json.loads((reproduced.out / "cora-course" / "run.json").read_text(encoding="utf-8"))
    assert course["command"] == "layerlab graph race cora --models gat,gcn --protocol course --seeds 2"


def test_the_findings(reproduced: Reproduced) -> None:
    findings = {finding["id"]: finding for finding in reproduced.summary["findings"]}
    assert list(findings) == [
        "experiment.gcn-cora",
        "experiment.gat-cora",
        "experiment.gat-beats-gcn",
        "experiment.test-is-validation",
        "experiment.public-split.gcn",
        "experiment.public-split.gat",
        "experiment.public-split.sgc",
        *(claim.id for claim in CLAIMS),
    ]
    verdicts = [finding["verdict"] for finding in findings.values()]
    assert reproduced.summary["hold"] == verdicts.count("holds")
    assert reproduced.summary["refuted"] == verdicts.count("refuted")
    assert reproduced.summary["of"] == 7 + len(CLAIMS)
    # The course's test part is its validation part.
    assert findings["experiment.test-is-validation"]["verdict"] == "refuted"
    # Two runs tell nothing of a single one.
    assert findings["experiment.gcn-cora"]["verdict"] == "measured"
    assert "too few seeds to tell (2, at least 5 needed)" in findings["experiment.gcn-cora"]["measured"]
    # Two epochs teach nobody: the papers' figures are far away. The theorems do not depend on training.
    assert findings["experiment.public-split.gat"]["verdict"] != "holds"
    # What the document prints wrongly is refuted; all else holds.
    for claim in CLAIMS:
        assert findings[claim.id]["verdict"] == claim.expected


def test_the_page_tells_the_story(reproduced: Reproduced) -> None:
    text = words(reproduced.page)
    for expected in (
        "What the document's comparison did wrong",
        "Two different splits",
        "One run each",
        "nothing was held out",
        "1.0643 / 0.6515, one run",
        "1.0200 / 0.8057, one run",
        "81.5 % in the paper",
        "83.0 % in the paper",
        "81.0 % in the paper",
        "Graphs: Laplacians, GCN, GAT and SGC",
        "layerlab graph race cora --models gat,gcn,sgc,mlp --protocol public --seeds 2",
        "weight_decay",
    ):
        assert expected in text, expected
    for finding in reproduced.summary["findings"]:
        assert finding["measured" if finding["id"].startswith("experiment.") else "question"] in text
    assert "nan" not in re.findall(r"\b\w+\b", text.lower())
    # Self-contained: nothing is fetched.
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", reproduced.page)


def test_a_finished_reproduction_trains_nothing(
    reproduced: Reproduced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "fit", lambda *_, **__: pytest.fail("trained again"))
    with quickly():
        page, summary = reproduce(reproduced.out, display=Shown(), only=["graph"], amount=TWO, jobs=1)
    assert summary == reproduced.summary
    assert page.read_text(encoding="utf-8") == reproduced.page


def test_a_quick_look_is_widened_in_its_folder(reproduced: Reproduced, tmp_path: Path) -> None:
    out = tmp_path / "wider"
    shutil.copytree(reproduced.out, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/cells/*.json")}
    with quickly():
        page, summary = reproduce(
            out,
            display=Shown(),
            only=["graph"],
            amount=replace(TWO, seeds=3),
            jobs=1,
            command=["layerlab", "again"],
        )
    after = {path: path.stat().st_mtime_ns for path in out.glob("*/cells/*.json")}
    assert {path: after[path] for path in before} == before
    assert {path.stem for path in after.keys() - before.keys()} == {
        "gat-0002",
        "gcn-0002",
        "mlp-0002",
        "sgc-0002",
    }
    assert summary["seeds"] == 3
    text = page.read_text(encoding="utf-8")
    assert "--protocol public --seeds 3" in text
    assert "layerlab again" in text


def test_what_cannot_be_reproduced_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown chapter 'vision'; expected one of gradflow, attention"):
        reproduce(tmp_path / "out", display=Shown(), only=["graph", "vision"])
    with pytest.raises(UserError, match="at least 2 seeds, got 1"):
        reproduce(tmp_path / "out", display=Shown(), amount=replace(TWO, seeds=1))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    with pytest.raises(UserError, match="choose another --out"):
        reproduce(tmp_path / "file", display=Shown(), amount=TWO)


def test_on_the_command_line(reproduced: Reproduced, cli: Callable[..., Any]) -> None:
    with quickly():
        shown = cli("reproduce", "--out", reproduced.out, "--only", "graph", "--seeds", 2, "--jobs", 1)
    assert shown.status == 0
    assert (
        f"{reproduced.summary['hold']} of {7 + len(CLAIMS)} statements hold, {reproduced.summary['refuted']} are"
        in shown.out
    )
    assert "Is the GAT more accurate" in shown.out
    assert f"report: {reproduced.out / 'report.html'}" in shown.err


def test_as_json(reproduced: Reproduced, cli: Callable[..., Any]) -> None:
    with quickly():
        shown = cli(
            "reproduce", "--out", reproduced.out, "--only", "graph", "--seeds", 2, "--jobs", 1, "--json"
        )
    record = json.loads(shown.out)
    assert shown.err == ""
    assert record["report"] == str(reproduced.out / "report.html")
    assert [finding["id"] for finding in record["findings"]] == [
        f["id"] for f in reproduced.summary["findings"]
    ]
