"""The projection claims as a whole: they come out as expected, and are told."""

from __future__ import annotations

import pytest

from layerlab.claims import Claim
from layerlab.projection import theorems

from ...registers import checked_as_expected, is_in_the_catalogue, is_told_on_its_page

CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)
SAMPLED = {"projection.jl", "projection.chi-square", "projection.rademacher"}


@CLAIMS
@pytest.mark.parametrize("seed", [0, 1])
def test_every_claim_comes_out_as_expected(claim: Claim, seed: int) -> None:
    result = checked_as_expected(claim, seed)
    for entry in result.checked:
        if entry.outcome.unmet is None:
            scale = max(abs(entry.outcome.bound), entry.outcome.measurement.slack.scale or 0.0)
            assert entry.outcome.slack <= (0.5 if claim.id in SAMPLED else 1e-9) * scale, entry.name


def test_the_catalogue_has_the_claims_under_their_domain() -> None:
    is_in_the_catalogue("projection", theorems.CLAIMS)


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    assert {"projection.jl", "projection.almost-orthogonal", "projection.kerdock", "projection.floors"} <= ids
    refuted = {claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"}
    assert refuted == {"projection.eight-for-every-eps", "projection.unit-vectors-as-printed"}


def test_the_theory_page_tells_every_claim() -> None:
    is_told_on_its_page("projection", theorems.CLAIMS)
