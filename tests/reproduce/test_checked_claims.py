"""The claims in a reproduction: checked once, kept, and told."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reproducing import TWO, Shown, words

from layerlab.catalogue import catalogue
from layerlab.claims import CheckResult, Register, check
from layerlab.claims.checking import Checked
from layerlab.claims.outcome import Measurement, Outcome
from layerlab.claims.slack import exact
from layerlab.errors import UserError
from layerlab.reproduce import reproduce, theorems


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
