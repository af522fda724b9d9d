"""`layerlab reproduce`: resumable, refused in one line, and verdicts that follow from the numbers."""

from __future__ import annotations

import functools
import html
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from layerlab.catalogue import catalogue
from layerlab.claims import CheckResult, Register, check
from layerlab.claims.checking import Checked
from layerlab.claims.outcome import Measurement, Outcome
from layerlab.claims.slack import exact
from layerlab.cli import progress
from layerlab.errors import UserError
from layerlab.graph import experiments, runs
from layerlab.graph.theorems import CLAIMS
from layerlab.lab.race import summarise
from layerlab.lab.report.page import Text
from layerlab.reproduce import CHAPTERS, DEFAULT, FULL, QUICK, Amount, Step, reproduce, theorems
from layerlab.reproduce import graph as chapter
from layerlab.reproduce import segmentation as skips
from layerlab.segmentation.digits import Digits

COURSE_CELLS, PUBLIC_CELLS = 2 * 2, 4 * 2
TWO = Amount(seeds=2, trainings=2)


@contextmanager
def quickly() -> Iterator[None]:
    """Two epochs for every model instead of hundreds."""
    original = experiments.settings_for

    def settings_for(model: str, protocol: str, dataset: str) -> Any:
        return replace(original(model, protocol, dataset), epochs=2, heads=2, hidden=2)

    with pytest.MonkeyPatch.context() as patch:
        for module in (experiments, runs):
            patch.setattr(module, "settings_for", settings_for)
        yield


@dataclass
class Shown:
    """A display that remembers, and presses Ctrl-C after some cells."""

    stop_after: int = 10**9
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    cells: list[tuple[str, int]] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    @contextmanager
    def plan(self, steps: Sequence[Step], jobs: int) -> Iterator[Callable[[str, dict[str, Any]], None]]:
        self.steps = [(step.title, len(step.seconds), step.seeds) for step in steps]

        def report(title: str, cell: dict[str, Any]) -> None:
            assert title in {step.title for step in steps}
            if title == "claims":
                self.checked.append(cell["contestant"])
                return
            self.cells.append((cell["contestant"], cell["seed"]))
            if len(self.cells) == self.stop_after:
                raise KeyboardInterrupt

        yield report


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


def words(page: str) -> str:
    """The text of a page, without markup."""
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


# ---------------------------------------------------------------------- the run


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
    # Two epochs teach nobody: the papers' figures are far away. The theorems do not depend on training.
    assert findings["experiment.public-split.gat"]["verdict"] == "refuted"
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
        "2 seeds each",
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
    assert "3 seeds each" in text
    assert "layerlab again" in text


# ------------------------------------------------------------------- refusals


def test_what_cannot_be_reproduced_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown chapter 'vision'; expected one of gradflow, attention"):
        reproduce(tmp_path / "out", display=Shown(), only=["graph", "vision"])
    with pytest.raises(UserError, match="at least 2 seeds, got 1"):
        reproduce(tmp_path / "out", display=Shown(), amount=replace(TWO, seeds=1))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    with pytest.raises(UserError, match="choose another --out"):
        reproduce(tmp_path / "file", display=Shown(), amount=TWO)


# ----------------------------------------------------------------- command line


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


@pytest.mark.parametrize(
    ("arguments", "amount"),
    [
        ((), DEFAULT),
        (("--quick",), QUICK),
        (("--full",), FULL),
        (("--seeds", 5), replace(DEFAULT, seeds=5, trainings=5)),
        (("--quick", "--seeds", 7), replace(QUICK, seeds=7, trainings=7)),
    ],
)
def test_how_much(
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    amount: Amount,
) -> None:
    asked: list[dict[str, Any]] = []

    def recorded(out: Path, **options: Any) -> Any:
        asked.append({"out": out, **options})
        return out / "report.html", {"findings": [], "parts": [], "hold": 0, "refuted": 0, "of": 0}

    monkeypatch.setattr("layerlab.reproduce.reproduce", recorded)
    assert cli("reproduce", "--out", tmp_path, *arguments).status == 0
    (options,) = asked
    assert (options["amount"], options["out"], options["only"]) == (amount, tmp_path, ())


def test_bad_arguments_are_one_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    shown = cli("reproduce", "--out", tmp_path / "out", "--only", "vision")
    assert (shown.status, shown.out) == (2, "")
    assert shown.err == f"error: unknown chapter 'vision'; expected one of {', '.join(CHAPTERS)}\n"
    assert cli("reproduce", "--seeds", 1).status == 2
    both = cli("reproduce", "--quick", "--full", "--out", tmp_path / "out")
    assert (both.status, both.out) == (2, "") and "exclude each other" in both.err
    assert "Example: layerlab reproduce" in cli("reproduce", "--help").out


# --------------------------------------------------- verdicts from made-up numbers


@dataclass
class Raced:
    results: dict[str, Any]
    cells: dict[str, Any]
    command: str = "layerlab graph race cora"


def results(
    gat: Sequence[float] = (0.7, 0.8),
    gcn: Sequence[float] = (0.7, 0.8),
    loss: Sequence[float] = (1.0, 1.1),
    **others: Sequence[float],
) -> Any:
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
    return Raced(summary, cells)


@pytest.mark.parametrize(
    ("accuracies", "losses", "verdict"),
    [
        # The document has 0.6515 and 1.0643.
        ((0.60, 0.65, 0.70), (1.00, 1.06, 1.12), "holds"),
        ((0.70, 0.71, 0.72), (1.00, 1.06, 1.12), "refuted"),
        ((0.55, 0.56, 0.57), (1.00, 1.06, 1.12), "refuted"),
        ((0.60, 0.65, 0.70), (1.20, 1.21, 1.22), "refuted"),
        ((0.60, 0.65, 0.70), (0.80, 0.81, 0.82), "refuted"),
        # Outside the interval of the mean (+- 0.025), inside that of a single run (+- 0.050).
        ((0.6815, 0.6915, 0.7015), (1.00, 1.06, 1.12), "holds"),
    ],
)
def test_a_single_run_is_compared_with_single_runs(
    accuracies: Sequence[float], losses: Sequence[float], verdict: str
) -> None:
    finding = chapter._document_finding("gcn", results(gcn=accuracies, gat=accuracies, loss=losses))
    assert finding.verdict == verdict
    assert finding.document == "1.0643 / 0.6515, one run"
    assert finding.measured.endswith("3 seeds")
    detail = finding.detail["accuracy"]
    assert (
        detail["single_run_low"] < detail["low"] < detail["mean"] < detail["high"] < detail["single_run_high"]
    )


@pytest.mark.parametrize(
    ("differences", "verdict", "measured"),
    [
        ((0.05, 0.06, 0.07), "holds", "+6.0 points, 95 % interval +3.5 to +8.5, 3 of 3 pairs"),
        ((-0.05, -0.06, -0.07), "refuted", "−6.0 points, 95 % interval −8.5 to −3.5, 0 of 3 pairs"),
        ((0.05, 0.06, -0.05), "measured", "+2.0 points, 95 % interval −13.1 to +17.1, 2 of 3 pairs"),
        ((0.0, 0.0, 0.0), "measured", "+0.0 points, 95 % interval +0.0 to +0.0, 0 of 3 pairs"),
    ],
)
def test_a_difference_needs_an_interval_without_zero(
    differences: Sequence[float], verdict: str, measured: str
) -> None:
    gcn = (0.5, 0.5, 0.5)
    gat = [left + right for left, right in zip(gcn, differences, strict=True)]
    finding = chapter._difference_finding(results(gat=gat, gcn=gcn, loss=(1, 1, 1)))
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
    section = chapter._comparison_section(made_up.results, chapter._difference_finding(made_up))
    text = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert "differ by 10.0 points on average" in text
    for phrase in expected:
        assert phrase in text


@pytest.mark.parametrize(
    ("model", "mean", "verdict"),
    [
        ("gcn", 0.8051, "holds"),
        ("gcn", 0.8049, "refuted"),
        ("gat", 0.8201, "holds"),
        ("gat", 0.8199, "refuted"),
        ("sgc", 0.99, "holds"),
        ("sgc", 0.7999, "refuted"),
    ],
)
def test_a_papers_mean_may_be_a_point_higher(model: str, mean: float, verdict: str) -> None:
    finding = chapter._paper_finding(model, results(**{"sgc": (0.5, 0.5), model: (mean - 0.01, mean + 0.01)}))
    assert finding.verdict == verdict
    assert finding.measured == f"{100 * mean:.1f} % (sd 1.4), 2 seeds"


def checked_claim(*entries: tuple[str, float]) -> theorems.CheckedClaim:
    """A check with made-up outcomes: (role, measured), the bound being 1."""
    claim = catalogue()["graph.lambda-max"]
    checked = []
    for role, measured in entries:
        outcome = Outcome("<=", Measurement(measured, 1.0, exact("made up")), seed=0)
        accepted = ("violated",) if role == "falsifier" else ("holds",)
        checked.append(Checked(role, role, accepted, outcome))  # type: ignore[arg-type]
    return theorems.CheckedClaim(claim, CheckResult(claim, 0, tuple(checked)).to_dict())


@pytest.mark.parametrize(
    ("entries", "verdict", "measured"),
    [
        (
            [("subject", 0.5), ("falsifier", 2.0)],
            "holds",
            "1 of 1 subjects as expected; 1 of 1 falsifiers caught",
        ),
        (
            [("subject", 2.0), ("falsifier", 2.0)],
            "refuted",
            "0 of 1 subjects as expected; 1 of 1 falsifiers caught",
        ),
        (
            [("subject", 0.5), ("falsifier", 0.5)],
            "refuted",
            "1 of 1 subjects as expected; 0 of 1 falsifiers caught",
        ),
    ],
)
def test_a_theorem_holds_when_its_falsifiers_are_caught(
    entries: list[tuple[str, float]], verdict: str, measured: str
) -> None:
    finding = theorems.finding(checked_claim(*entries))
    assert (finding.verdict, finding.measured) == (verdict, measured)


def test_a_claim_of_the_catalogue_becomes_a_finding() -> None:
    claim = catalogue()["graph.gat-coefficients"]
    record = check(claim, 0).to_dict()
    finding = theorems.finding(theorems.CheckedClaim(claim, record))
    assert (finding.id, finding.verdict, finding.detail) == (claim.id, "holds", record)


# ------------------------------------------------------------------- the claims


def test_claims_of_several_domains_are_checked_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"gradflow": ["gradflow.product"], "projection": ["projection.unit-vectors-as-printed"]}
    register = Register(catalogue()[claim] for ids in few.values() for claim in ids)
    monkeypatch.setattr(theorems, "catalogue", lambda: register)
    shown = Shown()
    page, summary = reproduce(tmp_path / "out", display=shown, only=list(few), amount=TWO, jobs=1)
    assert shown.checked == [claim for ids in few.values() for claim in ids]
    assert [finding["command"] for finding in summary["findings"]] == [
        f"layerlab claims check {claim}" for ids in few.values() for claim in ids
    ]
    assert [finding["verdict"] for finding in summary["findings"]] == ["holds", "refuted"]
    assert [(part["hold"], part["printed_wrongly"], part["unexpected"]) for part in summary["parts"]] == [
        (1, 0, []),
        (0, 1, []),
    ]
    text = words(page.read_text(encoding="utf-8"))
    assert "Errata" in text and "Counterexample" in text and "Control" in text
    monkeypatch.setattr(theorems, "check", lambda *_, **__: pytest.fail("checked again"))
    assert reproduce(tmp_path / "out", display=Shown(), only=list(few), amount=TWO, jobs=1)[1] == summary
    changed = [replace(register[claim], statement="something else") for claim in register]
    monkeypatch.setattr(theorems, "catalogue", lambda: Register(changed))
    with pytest.raises(UserError, match=r"gradflow\.product has changed .* remove its folder 'claims'"):
        reproduce(tmp_path / "out", display=Shown(), only=list(few), amount=TWO, jobs=1)


def test_a_claim_that_comes_out_otherwise_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    claim = catalogue()["gradflow.product"]

    @functools.wraps(claim.measure)
    def planted(*_: Any, **__: Any) -> Measurement:
        return Measurement(2.0, 1.0, exact("planted"))

    claim = replace(claim, measure=planted)
    monkeypatch.setattr(theorems, "catalogue", lambda: Register([claim]))
    page, summary = reproduce(tmp_path / "out", display=Shown(), only=["gradflow"], amount=TWO, jobs=1)
    assert summary["parts"][0]["unexpected"] == ["gradflow.product"]
    assert (summary["hold"], summary["refuted"]) == (0, 1)
    text = words(page.read_text(encoding="utf-8"))
    assert "0 of 1" in text and "1 of 1" not in text


# -------------------------------------------------------------------------------------------------- section 4


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Shown]:
    """The chapter of skip connections by a tiny race."""
    shown = Shown()
    with pytest.MonkeyPatch.context() as patch:
        small = replace(skips.BUILT_IN, widths=(2, 4), size=16, epochs=1)
        patch.setattr(skips, "BUILT_IN", small)
        patch.setattr(skips, "Digits", lambda size: Digits(20, size))
        patch.setattr(theorems, "catalogue", lambda: Register([catalogue()["segmentation.zero-control"]]))
        page, summary = reproduce(
            tmp_path_factory.mktemp("skips") / "out",
            display=shown,
            only=["segmentation"],
            amount=TWO,
            jobs=1,
        )
    return words(page.read_text(encoding="utf-8")), summary, shown


def test_the_race_of_skip_connections_is_a_chapter(raced: tuple[str, dict[str, Any], Shown]) -> None:
    text, summary, shown = raced
    assert shown.steps == [("claims", 1, 1), ("U-Nets on digits", 3, 2)]
    assert sorted(shown.cells) == [(arm, seed) for arm in ("off", "on", "zero") for seed in (0, 1)]
    findings = {finding["id"]: finding for finding in summary["findings"]}
    assert list(findings) == ["experiment.skips", "experiment.skips-gradient", "segmentation.zero-control"]
    found = findings["experiment.skips"]
    low, high = found["detail"]["low"], found["detail"]["high"]
    assert found["verdict"] == ("holds" if low > 0 else "refuted" if high < 0 else "measured")
    assert found["document"].startswith("about 0.78 and 0.68")
    command = "layerlab segment race digits --arms on,off,zero --seeds 2"
    assert found["command"] == command and command in text
    assert "zero control" in text and "boundary IoU" in text


def test_a_quick_look_has_one_seed_and_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "BUILT_IN", replace(skips.BUILT_IN, widths=(2, 4), size=16, epochs=1))
    monkeypatch.setattr(skips, "Digits", lambda size: Digits(20, size))
    monkeypatch.setattr(theorems, "catalogue", lambda: Register([catalogue()["segmentation.zero-control"]]))
    _, summary = reproduce(tmp_path / "out", display=Shown(), only=["segmentation"], amount=QUICK, jobs=1)
    found = summary["findings"][0]
    assert (found["verdict"], found["measured"].endswith("one seed")) == ("measured", True)
    assert found["command"].endswith("--arms on,off --seeds 1")


# ------------------------------------------------------------------------------------------------ progress


def test_the_bar_is_told_every_cell() -> None:
    steps = [Step("claims", {"a": 1.0, "b": 3.0}, 1), Step("race", {"gcn": 2.0}, 2)]
    assert [step.total for step in steps] == [4.0, 4.0]
    with progress.plan(steps, 2) as report:
        for title, name in (("claims", "a"), ("claims", "b"), ("race", "gcn"), ("race", "gcn")):
            report(title, {"contestant": name})


@pytest.mark.parametrize(
    ("done", "elapsed", "left"),
    [
        # Twice as slow as thought: at first hardly believed, then more and more.
        (0, 0.0, "5 min left"),
        (10, 10.0, "7 min left"),
        (300, 300.0, "5 min left"),
        (590, 300.0, "5 s left"),
        (600, 300.0, "0 s left"),
    ],
)
def test_the_time_left_learns_from_the_machine(done: float, elapsed: float, left: str) -> None:
    assert progress.time_left(600, done, elapsed, 2) == left
