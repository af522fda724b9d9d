"""The projection claims as a whole: they come out as expected, and are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, check
from layerlab.projection import theorems

ROOT = Path(__file__).parents[3]
CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)
SAMPLED = {"projection.jl", "projection.chi-square", "projection.rademacher"}


@CLAIMS
@pytest.mark.parametrize("seed", [0, 1])
def test_every_claim_comes_out_as_expected(claim: Claim, seed: int) -> None:
    result = check(claim, seed=seed)
    assert [entry.to_dict() for entry in result.checked if not entry.as_expected] == []
    for entry in result.checked:
        if entry.outcome.unmet is None:
            scale = max(abs(entry.outcome.bound), entry.outcome.measurement.slack.scale or 0.0)
            assert entry.outcome.slack <= (0.5 if claim.id in SAMPLED else 1e-9) * scale, entry.name


def test_the_catalogue_has_the_claims_under_their_domain() -> None:
    assert [c for c in catalogue() if c.startswith("projection.")] == [c.id for c in theorems.CLAIMS]
    assert {claim.id.split(".")[0] for claim in theorems.CLAIMS} == {"projection"}


def test_the_register_of_claims_is_complete() -> None:
    ids = {claim.id for claim in theorems.CLAIMS}
    assert {"projection.jl", "projection.almost-orthogonal", "projection.kerdock", "projection.floors"} <= ids
    refuted = {claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"}
    assert refuted == {"projection.eight-for-every-eps", "projection.unit-vectors-as-printed"}


def test_the_theory_page_tells_every_claim() -> None:
    page = (ROOT / "docs" / "theory" / "projection.md").read_text(encoding="utf-8")
    told = re.findall(r"^## `(projection\.[^`]+)`$", page, flags=re.MULTILINE)
    assert told == [claim.id for claim in theorems.CLAIMS]
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for claim in theorems.CLAIMS:
        own = next(section for section in sections if section.startswith(f"`{claim.id}`"))
        assert all(f"`{name}`" in own for name in claim.falsifiers), claim.id
