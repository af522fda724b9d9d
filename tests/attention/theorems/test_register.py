"""The attention claims as a whole: they come out as expected, with tight slack, and are told."""

from __future__ import annotations

import pytest

from layerlab.attention import theorems
from layerlab.claims import Claim

from ...registers import checked_as_expected, is_in_the_catalogue, is_told_on_its_page

CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_attention_claim_comes_out_as_expected(claim: Claim) -> None:
    result = checked_as_expected(claim, 0)
    for entry in result.checked:
        if entry.outcome.unmet is None:
            # Nothing but rounding of the numbers compared: float32 where the subject says so.
            scale = max(abs(entry.outcome.bound), entry.outcome.measurement.slack.scale or 0.0)
            assert entry.outcome.slack <= (1e-3 if "float32" in entry.name else 1e-10) * scale, entry.name


def test_the_catalogue_has_the_attention_claims_under_their_domain() -> None:
    is_in_the_catalogue("attention", theorems.CLAIMS)


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = "kernel-linear low-rank-svd projection eckart-young conv1d max-pool full-rank-causal"
    assert {f"attention.{name}" for name in named.split()} <= ids
    refuted = {claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"}
    errata = "kernel-sign kernel-denominator low-rank-svd conv1d-edges conv1d-shift max-pool max-pool-weights"
    assert refuted == {f"attention.{name}-as-printed" for name in errata.split()}


def test_the_theory_page_tells_every_attention_claim() -> None:
    is_told_on_its_page("attention", theorems.CLAIMS)
