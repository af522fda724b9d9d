"""The estimators' claims as a whole: they come out as expected, with tight slack, and are told."""

from __future__ import annotations

import pytest

from layerlab.claims import Claim
from layerlab.estimators import theorems

from ...registers import checked_as_expected, is_in_the_catalogue, is_told_on_its_page

CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_claim_comes_out_as_expected(claim: Claim) -> None:
    result = checked_as_expected(claim, 0)
    for entry in result.checked:
        if entry.outcome.unmet is None:
            relative = 0.05 if claim.id.endswith("-sampled") else 1e-11
            scale = entry.outcome.measurement.slack.scale or 0.0
            assert entry.outcome.slack <= relative * max(abs(entry.outcome.bound), scale), entry.name


def test_the_catalogue_has_the_claims_under_their_domain() -> None:
    is_in_the_catalogue("estimators", theorems.CLAIMS)


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = "closed-form unbiased variance slow-learning baseline loo"
    assert {f"estimators.{name}" for name in named.split()} <= ids
    assert [c.id for c in theorems.CLAIMS if c.expected == "refuted"] == ["estimators.hint-as-printed"]


def test_the_theory_page_tells_every_claim() -> None:
    is_told_on_its_page("estimators", theorems.CLAIMS)
