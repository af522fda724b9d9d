"""The claims about skip connections as a whole: they come out as expected, and are told."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.claims import Claim, check
from layerlab.segmentation import theorems
from layerlab.segmentation.theorems import subjects

from ...registers import checked_as_expected, is_in_the_catalogue, is_told_on_its_page

CLAIMS = pytest.mark.parametrize("claim", theorems.CLAIMS, ids=lambda claim: claim.id)


@CLAIMS
def test_every_claim_comes_out_as_expected(claim: Claim) -> None:
    result = checked_as_expected(claim, 0)
    for entry in result.checked:
        if entry.outcome.unmet is None:
            scale = max(abs(entry.outcome.bound), entry.outcome.measurement.slack.scale or 0.0)
            assert entry.outcome.slack <= 1e-9 * scale, entry.name


def test_the_bound_on_the_rank_is_reached() -> None:
    (claim,) = (claim for claim in theorems.CLAIMS if claim.id == "segmentation.bottleneck")
    outcomes = [entry.outcome for entry in check(claim, seed=1).checked if entry.role == "subject"]
    assert [outcome.tightness for outcome in outcomes] == [1.0] * len(outcomes)


def test_strokes_and_blocks_are_what_they_are_called() -> None:
    images, masks = subjects.strokes(np.random.default_rng(0), 20, 16)
    assert images.shape == (20, 1, 16, 16) and images.dtype == np.float32 and masks.dtype == np.uint8
    # A block of 2 x 2 pixels could only be where strokes meet.
    solid = (masks[:, 1:, 1:] & masks[:, :-1, 1:] & masks[:, 1:, :-1] & masks[:, :-1, :-1]).mean()
    assert 0.05 < masks.mean() < 0.4 and solid < 0.05
    _, masks = subjects.blocks(np.random.default_rng(0), 20, 16)
    corners = masks[:, ::4, ::4]
    assert np.array_equal(masks, corners.repeat(4, axis=1).repeat(4, axis=2)) and 0.3 < corners.mean() < 0.7


def test_trainings_repeat_to_the_bit() -> None:
    assert subjects.trained_iou(subjects.blocks, "add", 5) == subjects.trained_iou(subjects.blocks, "add", 5)
    assert subjects.stem_gradient((4, 4), "batch", "off", 1) == subjects.stem_gradient(
        (4, 4), "batch", "off", 1
    )


def test_the_catalogue_has_the_claims_under_their_domain() -> None:
    is_in_the_catalogue("segmentation", theorems.CLAIMS)


def test_the_register_of_claims_is_complete() -> None:
    assert "segmentation.skips" in {claim.id for claim in theorems.CLAIMS}
    refuted = {claim.id for claim in theorems.CLAIMS if claim.expected == "refuted"}
    assert refuted == {
        "segmentation.skips-always-as-printed",
        "segmentation.gradient-reason-as-printed",
    }


def test_the_theory_page_tells_every_claim() -> None:
    is_told_on_its_page("segmentation", theorems.CLAIMS)
