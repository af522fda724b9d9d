"""``layerlab claims``: what it prints, and the exit status that a script relies on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

import layerlab.catalogue
from layerlab.claims import Claim, Register
from layerlab.graph.theorems import CLAIMS, LAMBDA_MAX, _complete, _directed, _path, _unnormalized_laplacian

Cli = Callable[..., Any]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Claim:
    """A register in which lambda-max is checked on a broken block, beside a sound claim."""

    def measure(graph: Any, generator: Any, *, laplacian: Any = _unnormalized_laplacian) -> Any:
        return LAMBDA_MAX.measure(graph, generator, laplacian=laplacian)

    claim = dataclasses.replace(
        LAMBDA_MAX, id="graph.broken", measure=measure, subjects={"complete-5": lambda: _complete(5)}
    )
    sound = dataclasses.replace(LAMBDA_MAX, subjects={"path-5": lambda: _path(5)})
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
    claim = CLAIMS[1]
    assert result.status == 0
    # The statement has square brackets, which a terminal library may take for markup.
    for text in (claim.statement, claim.source, *claim.hypotheses, *claim.subjects, *claim.falsifiers):
        assert text in result.out
    shown = json.loads(cli("claims", "show", claim.id, "--json").out)
    assert shown["statement"] == claim.statement
    assert shown["hypotheses"] == list(claim.hypotheses)
    assert shown["subjects"] == list(claim.subjects)
    assert [entry["name"] for entry in shown["falsifiers"]] == list(claim.falsifiers)


def test_check_of_everything_succeeds_and_repeats_bit_for_bit(cli: Cli) -> None:
    first, second = (cli("claims", "check", "--json", "--seed", 3) for _ in range(2))
    assert first.status == 0
    assert first.out == second.out
    report = json.loads(first.out)
    assert report["seed"] == 3
    assert report["as_expected"] is True
    assert [entry["id"] for entry in report["claims"]] == [claim.id for claim in CLAIMS]
    for entry, claim in zip(report["claims"], CLAIMS, strict=True):
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
    tame = dataclasses.replace(LAMBDA_MAX.falsifiers["directed"], subject=lambda: _path(3))
    claim = dataclasses.replace(
        LAMBDA_MAX, subjects={"path": lambda: _path(3)}, falsifiers={"directed": tame}
    )
    assert _directed().directed
    monkeypatch.setattr(layerlab.catalogue, "catalogue", lambda: Register([claim]))
    assert cli("claims", "check").status == 1


@pytest.mark.parametrize("command", ["show", "check"])
def test_an_unknown_claim_is_one_line_with_the_mend(cli: Cli, command: str) -> None:
    result = cli("claims", command, "graph.lambda-mix")
    assert result.status == 2
    assert result.out == ""
    assert result.err == ("error: no claim is called 'graph.lambda-mix'; did you mean graph.lambda-max?\n")


def test_a_negative_seed_is_refused(cli: Cli) -> None:
    result = cli("claims", "check", "graph.lambda-max", "--seed", "-1")
    assert (result.status, result.out) == (2, "")
    assert result.err == "error: a seed is not negative, got -1\n"


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("check",)])
def test_help_has_an_example(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli("claims", *command, "--help")
    assert result.status == 0
    assert "Example: layerlab claims" in result.out
