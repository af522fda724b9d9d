"""``layerlab claims``: what it prints, and the exit status that a script relies on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import layerlab.catalogue
from layerlab.claims import Claim, Register
from layerlab.graph.matrices import laplacian
from layerlab.graph.npz import to_npz
from layerlab.graph.theorems import CLAIMS, GAT_COEFFICIENTS, LAMBDA_MAX, subjects

Cli = Callable[..., Any]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Claim:
    """A register in which lambda-max is checked on a broken block, beside a sound claim."""

    def measure(graph: Any, generator: Any, *, matrix: Any = laplacian) -> Any:
        return LAMBDA_MAX.measure(graph, generator, matrix=matrix)

    claim = dataclasses.replace(
        LAMBDA_MAX, id="graph.broken", measure=measure, subjects={"complete-5": lambda: subjects.complete(5)}
    )
    sound = dataclasses.replace(LAMBDA_MAX, subjects={"path-5": lambda: subjects.path(5)})
    monkeypatch.setattr(layerlab.catalogue, "catalogue", lambda: Register([sound, claim]))
    return claim


def test_list_names_every_claim(cli: Cli) -> None:
    result = cli("claims", "list")
    assert result.status == 0
    for claim in CLAIMS:
        assert claim.id in result.out
    listed = json.loads(cli("claims", "list", "--json").out)
    assert [entry["id"] for entry in listed] == [
        claim.id for claim in layerlab.catalogue.catalogue().values()
    ]
    assert set(listed[0]) == {"id", "title", "source", "relation", "expected"}


def test_show_tells_everything_about_a_claim(cli: Cli) -> None:
    result = cli("claims", "show", "graph.gat-coefficients")
    claim = GAT_COEFFICIENTS
    assert result.status == 0
    # The statement has square brackets, which a terminal library may take for markup.
    for text in (claim.statement, claim.source, *claim.hypotheses, *claim.subjects, *claim.falsifiers):
        assert text in result.out
    shown = json.loads(cli("claims", "show", claim.id, "--json").out)
    assert shown["statement"] == claim.statement
    assert shown["hypotheses"] == list(claim.hypotheses)
    assert shown["subjects"] == list(claim.subjects)
    assert [entry["name"] for entry in shown["falsifiers"]] == list(claim.falsifiers)


def test_checks_succeed_and_repeat_bit_for_bit(cli: Cli) -> None:
    # But for those that train networks, half of the time: segmentation/theorems/test_register.py has them.
    names = [claim for claim in layerlab.catalogue.catalogue() if not claim.startswith("segmentation.")]
    first, second = (cli("claims", "check", "--json", "--seed", 3, *names) for _ in range(2))
    assert first.status == 0
    assert first.out == second.out
    report = json.loads(first.out)
    assert report["seed"] == 3
    assert report["as_expected"] is True
    claims = [layerlab.catalogue.catalogue()[name] for name in names]
    assert [entry["id"] for entry in report["claims"]] == [claim.id for claim in claims]
    for entry, claim in zip(report["claims"], claims, strict=True):
        assert [row["name"] for row in entry["outcomes"]] == [*claim.subjects, *claim.falsifiers]
        assert all(row["slack_reason"] for row in entry["outcomes"])
    assert (
        cli("claims", "check", "graph.gat-*", "--json").out
        != cli("claims", "check", "graph.gat-*", "--json", "--seed", 1).out
    )


def test_check_prints_a_table_and_a_summary(cli: Cli) -> None:
    result = cli("claims", "check", "*.lambda-max")
    assert result.status == 0
    assert "falsifier: unnormalised" in result.out
    assert "directed: hypotheses unmet, the graph is directed" in result.out
    assert "NOT OK" not in result.out
    assert "graph.gat-coefficients" not in result.out
    assert result.out.rstrip().endswith("1 of 1 claims came out as expected (seed 0)")


@pytest.mark.usefixtures("broken")
def test_one_claim_that_fails_gives_status_1(cli: Cli) -> None:
    result = cli("claims", "check")
    assert result.status == 1
    assert "NOT OK" in result.out
    assert result.out.rstrip().endswith("1 of 2 claims came out as expected (seed 0); not so: graph.broken")
    report = cli("claims", "check", "--json")
    assert report.status == 1
    assert json.loads(report.out)["as_expected"] is False
    assert cli("claims", "check", "graph.lambda-max").status == 0


def test_a_falsifier_that_does_not_fail_gives_status_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    tame = dataclasses.replace(LAMBDA_MAX.falsifiers["directed"], subject=lambda: subjects.path(3))
    claim = dataclasses.replace(
        LAMBDA_MAX, subjects={"path": lambda: subjects.path(3)}, falsifiers={"directed": tame}
    )
    assert subjects.directed().directed
    monkeypatch.setattr(layerlab.catalogue, "catalogue", lambda: Register([claim]))
    assert cli("claims", "check").status == 1


@pytest.mark.parametrize("command", ["show", "check"])
def test_an_unknown_claim_is_one_line_with_the_mend(cli: Cli, command: str) -> None:
    result = cli("claims", command, "graph.lambda-mix")
    assert result.status == 2
    assert result.out == ""
    assert result.err == (
        "error: no claim is called 'graph.lambda-mix'; did you mean graph.lambda-min or graph.lambda-max?\n"
    )


def test_a_negative_seed_is_refused(cli: Cli) -> None:
    result = cli("claims", "check", "graph.lambda-max", "--seed", "-1")
    assert (result.status, result.out) == (2, "")
    assert result.err == "error: a seed is not negative, got -1\n"


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("check",)])
def test_help_has_an_example(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli("claims", *command, "--help")
    assert result.status == 0
    assert "Example: layerlab claims" in result.out


# ------------------------------------------------------------------------------------------------- --on DATA


def rows_of(out: str) -> dict[str, list[str]]:
    """The cells of each row of a table by its first cell."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in cells}


def test_claims_on_an_edge_list_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "path.csv"
    file.write_text("ann,bob\nbob,eve\n")
    result = cli("claims", "check", "--on", file)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"{file}: Graph(3 nodes, 2 undirected edges)")
    rows = rows_of(result.out)
    assert list(rows) == [claim.id.removeprefix("graph.") for claim in CLAIMS]
    assert rows["components"] == ["holds", "1", "== 1", "0"]
    assert rows["lambda-max"][0] == "holds"
    # The erratum is refuted by this very graph, and that is no failure.
    assert rows["leading-eigenvector-as-printed"][:2] == ["violated", "0.292893"]
    assert "graph.leading-eigenvector-as-printed: false as printed; here it is violated" in result.out
    assert result.out.rstrip().endswith(
        f"{len(CLAIMS)} of {len(CLAIMS)} claims came out as expected (seed 0)"
    )


def test_unmet_hypotheses_on_ones_own_graph_are_an_answer_with_a_reason(cli: Cli, tmp_path: Path) -> None:
    to_npz(subjects.directed(), tmp_path / "directed.npz")
    result = cli("claims", "check", "graph.lambda-max", "graph.gat-*", "--on", tmp_path / "directed.npz")
    assert result.status == 0
    assert rows_of(result.out)["lambda-max"] == ["unmet", "-", "-", "-"]
    assert "  graph.lambda-max: hypotheses unmet, the graph is directed" in result.out
    assert rows_of(result.out)["gat-coefficients"][0] == "holds"
    report = json.loads(
        cli("claims", "check", "graph.lambda-max", "--json", "--on", tmp_path / "directed.npz").out
    )
    assert report["as_expected"] is True
    assert report["on"]["graph"] == "Graph(4 nodes, 4 arcs)"
    assert report["on"]["data"].endswith("directed.npz")
    own = report["claims"][0]["outcomes"][0]
    assert (own["name"], own["role"], own["unmet"]) == ("mine", "given", "the graph is directed")


@pytest.mark.usefixtures("broken")
def test_a_violation_on_ones_own_graph_gives_status_1(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "k4.csv").write_text("0,1\n0,2\n0,3\n1,2\n1,3\n2,3\n")
    result = cli("claims", "check", "--on", tmp_path / "k4.csv")
    assert result.status == 1
    assert rows_of(result.out)["broken"] == ["violated, NOT OK", "4", "<= 2", "3.6e-15"]
    assert result.out.rstrip().endswith("1 of 2 claims came out as expected (seed 0); not so: graph.broken")


def test_a_falsifier_that_does_not_fail_shows_on_ones_own_graph(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    tame = dataclasses.replace(LAMBDA_MAX.falsifiers["directed"], subject=lambda: subjects.path(3))
    claim = dataclasses.replace(LAMBDA_MAX, falsifiers={"directed": tame})
    monkeypatch.setattr(layerlab.catalogue, "catalogue", lambda: Register([claim]))
    result = cli("claims", "check", "--on", "cora")
    assert result.status == 1
    assert "graph.lambda-max: falsifier directed came out holds, NOT OK" in result.out


def test_only_claims_about_graphs_take_a_graph(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(LAMBDA_MAX, id="other.thing")
    monkeypatch.setattr(layerlab.catalogue, "catalogue", lambda: Register([LAMBDA_MAX, other]))
    result = cli("claims", "check", "other.thing", "--on", "cora")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "error: --on gives a graph, but other.thing is no claim about graphs; choose among graph.*\n"
    )
    assert cli("claims", "check", "--on", "cora").status == 0
    assert "there is no 'nowhere'" in cli("claims", "check", "--on", "nowhere").err
