"""The attention claims as a whole: they come out as expected, with tight slack, and are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerlab.attention import theorems
from layerlab.catalogue import catalogue
from layerlab.claims import Claim, check

ROOT = Path(__file__).parents[3]
CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_attention_claim_comes_out_as_expected(claim: Claim) -> None:
    result = check(claim, seed=0)
    assert [entry.to_dict() for entry in result.checked if not entry.as_expected] == []
    for entry in result.checked:
        if entry.outcome.unmet is None:
            # Nothing but rounding of the numbers compared: float32 where the subject says so.
            scale = max(abs(entry.outcome.bound), entry.outcome.measurement.slack.scale or 0.0)
            assert entry.outcome.slack <= (1e-3 if "float32" in entry.name else 1e-10) * scale, entry.name


@CLAIMS
def test_verdicts_do_not_hang_on_the_seed(claim: Claim) -> None:
    assert check(claim, seed=1).as_expected


def test_the_catalogue_has_the_attention_claims_under_their_domain() -> None:
    assert [c for c in catalogue() if c.startswith("attention.")] == [c.id for c in theorems.CLAIMS]
    assert {claim.id.split(".")[0] for claim in theorems.CLAIMS} == {"attention"}


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    named = "kernel-linear low-rank-svd projection eckart-young conv1d max-pool full-rank-causal"
    assert {f"attention.{name}" for name in named.split()} <= ids
    refuted = {claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"}
    errata = "kernel-sign kernel-denominator low-rank-svd conv1d-edges conv1d-shift max-pool max-pool-weights"
    assert refuted == {f"attention.{name}-as-printed" for name in errata.split()}


def test_the_theory_page_tells_every_attention_claim() -> None:
    page = (ROOT / "docs" / "theory" / "attention.md").read_text(encoding="utf-8")
    told = re.findall(r"^## `(attention\.[^`]+)`", page, flags=re.MULTILINE)
    assert told == [claim.id for claim in theorems.CLAIMS]
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for claim in theorems.CLAIMS:
        own = next(section for section in sections if section.startswith(f"`{claim.id}`"))
        assert all(f"`{name}`" in own for name in claim.falsifiers), claim.id
