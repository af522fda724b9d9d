"""The gradflow claims as a whole: they come out as expected, with tight slack, and are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, check
from layerlab.gradflow import theorems

ROOT = Path(__file__).parents[3]
CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_gradflow_claim_comes_out_as_expected(claim: Claim) -> None:
    result = check(claim, seed=0)
    assert [entry.to_dict() for entry in result.checked if not entry.as_expected] == []
    for entry in result.checked:
        # Nothing but rounding: a factor that is off in the tenth digit would show.
        scale = max(entry.outcome.bound, 0.25) if claim.id.startswith("gradflow.sigmoid-layer") else 0
        if entry.outcome.unmet is None:
            assert entry.outcome.slack <= 1e-11 * max(abs(entry.outcome.bound), scale), entry.name


def test_the_catalogue_has_the_gradflow_claims_under_their_domain() -> None:
    assert [c for c in catalogue() if c.startswith("gradflow.")] == [c.id for c in theorems.CLAIMS]
    assert {claim.id.split(".")[0] for claim in theorems.CLAIMS} == {"gradflow"}


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = "sigmoid-chain tanh-chain relu-chain rnn-tanh rnn-sigmoid product"
    assert {f"gradflow.{name}" for name in named.split()} <= ids
    assert [claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"] == [
        "gradflow.sigmoid-layer-as-printed"
    ]


def test_the_theory_page_tells_every_gradflow_claim() -> None:
    page = (ROOT / "docs" / "theory" / "gradflow.md").read_text(encoding="utf-8")
    told = re.findall(r"^## `(gradflow\.[^`]+)`", page, flags=re.MULTILINE)
    assert told == [claim.id for claim in theorems.CLAIMS]
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for claim in theorems.CLAIMS:
        own = next(section for section in sections if section.startswith(f"`{claim.id}`"))
        assert all(f"`{name}`" in own for name in claim.falsifiers), claim.id
