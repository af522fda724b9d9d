"""The gradflow claims as a whole: they come out as expected, with tight slack, and are told."""

from __future__ import annotations

import pytest

from layerlab.claims import Claim
from layerlab.gradflow import theorems

from ...registers import checked_as_expected, is_in_the_catalogue, is_told_on_its_page

CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_gradflow_claim_comes_out_as_expected(claim: Claim) -> None:
    result = checked_as_expected(claim, 0)
    for entry in result.checked:
        # Nothing but rounding: a factor that is off in the tenth digit would show.
        scale = max(entry.outcome.bound, 0.25) if claim.id.startswith("gradflow.sigmoid-layer") else 0
        if entry.outcome.unmet is None:
            assert entry.outcome.slack <= 1e-11 * max(abs(entry.outcome.bound), scale), entry.name


def test_the_catalogue_has_the_gradflow_claims_under_their_domain() -> None:
    is_in_the_catalogue("gradflow", theorems.CLAIMS)


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = "sigmoid-chain tanh-chain relu-chain rnn-tanh rnn-sigmoid product"
    assert {f"gradflow.{name}" for name in named.split()} <= ids
    assert [claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"] == [
        "gradflow.sigmoid-layer-as-printed"
    ]


def test_the_theory_page_tells_every_gradflow_claim() -> None:
    is_told_on_its_page("gradflow", theorems.CLAIMS)
