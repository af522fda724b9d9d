"""The estimators' claims as a whole: they come out as expected, with tight slack, and are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, check
from layerlab.estimators import theorems

ROOT = Path(__file__).parents[3]
CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_claim_comes_out_as_expected(claim: Claim) -> None:
    result = check(claim, seed=0)
    assert [entry.to_dict() for entry in result.checked if not entry.as_expected] == []
    for entry in result.checked:
        if entry.outcome.unmet is None:
            relative = 0.05 if claim.id.endswith("-sampled") else 1e-11
            scale = entry.outcome.measurement.slack.scale or 0.0
            assert entry.outcome.slack <= relative * max(abs(entry.outcome.bound), scale), entry.name


def test_the_catalogue_has_the_claims_under_their_domain() -> None:
    assert [c for c in catalogue() if c.startswith("estimators.")] == [c.id for c in theorems.CLAIMS]
    assert {claim.id.split(".")[0] for claim in theorems.CLAIMS} == {"estimators"}


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = "closed-form unbiased variance slow-learning baseline loo"
    assert {f"estimators.{name}" for name in named.split()} <= ids
    assert [c.id for c in theorems.CLAIMS if c.expected == "refuted"] == ["estimators.hint-as-printed"]


def test_the_theory_page_tells_every_claim() -> None:
    page = (ROOT / "docs" / "theory" / "estimators.md").read_text(encoding="utf-8")
    told = re.findall(r"^## `(estimators\.[^`]+)`$", page, flags=re.MULTILINE)
    assert told == [claim.id for claim in theorems.CLAIMS]
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for claim in theorems.CLAIMS:
        own = next(section for section in sections if section.startswith(f"`{claim.id}`"))
        assert all(f"`{name}`" in own for name in claim.falsifiers), claim.id
