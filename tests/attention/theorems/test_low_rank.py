"""The claims about low rank and projection: on any head, and every kind of damage is seen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import heads, measured

from layerlab.attention.theorems import low_rank, projection
from layerlab.attention.theorems.low_rank import Ranked, numerical_rank
from layerlab.attention.theorems.subjects import Head, clustered_head, gaussian, low_rank_head, random_head


@settings(derandomize=True, deadline=None, max_examples=80)
@given(heads(), st.integers(1, 12))
def test_no_head_violates_a_true_claim(head: Head, k: int) -> None:
    for claim in (
        low_rank.LOW_RANK_SVD,
        low_rank.ECKART_YOUNG,
        low_rank.ECKART_YOUNG_FLOOR,
        projection.PROJECTION,
    ):
        assert measured(claim, Ranked(head, k)).verdict != "violated", claim.id


def test_subjects_have_the_rank_that_they_say() -> None:
    assert numerical_rank(clustered_head(40, 3).weights()) == 3
    made = low_rank_head(40, 2)
    assert numerical_rank(made.q @ made.k.T) == 2


def test_printed_formula_hangs_on_the_signs_of_singular_vectors_for_two_tokens() -> None:
    # An orthogonal 2 x 2 matrix is a reflection, which is symmetric, or turns into one with a column's sign.
    p = random_head(2).weights()
    u, s, vt = torch.linalg.svd(p)
    v = gaussian(2, 3)
    flipped = torch.tensor([1.0, -1.0], dtype=torch.float64)
    ways = [
        (u * sign).T @ (s[:, None] * ((vt.T * sign).T @ v)) for sign in (torch.ones_like(flipped), flipped)
    ]
    right = sorted(float((way - p @ v).norm()) for way in ways)
    assert right[0] < 1e-14
    assert right[1] > 0.1


@pytest.mark.parametrize("damage", ["u", "s", "vt"])
def test_factors_that_are_off_in_the_ninth_digit_are_seen(damage: str) -> None:
    def off(u: torch.Tensor, s: torch.Tensor, vt: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        factors = {"u": u, "s": s, "vt": vt}
        factors[damage] = factors[damage] * (1 + 1e-9)
        return factors["u"] @ (factors["s"][:, None] * (factors["vt"] @ v))

    given = Ranked(clustered_head(40, 3), 3)
    assert measured(low_rank.LOW_RANK_SVD, given, apply=off).verdict == "violated"


def test_shipped_operators_are_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, claim in (
        (low_rank, "svd_attention", low_rank.LOW_RANK_SVD),
        (projection, "projected_attention", projection.PROJECTION),
    ):
        shipped = getattr(module, name)
        subject = Ranked(low_rank_head(30, 2), 30 if claim is low_rank.LOW_RANK_SVD else 2)
        assert measured(claim, subject).verdict == "holds"
        monkeypatch.setattr(module, name, lambda *a, shipped=shipped, **o: shipped(*a, **o) * (1 + 1e-6))
        assert measured(claim, subject).verdict == "violated", name


def test_an_approximation_below_the_floor_is_seen() -> None:
    def mended(head: Head, k: int) -> torch.Tensor:
        u, s, vt = torch.linalg.svd(head.weights(), full_matrices=False)
        s[k + 1 :] = 0
        return (u * s) @ vt

    given, shipped = Ranked(random_head(30), 5), low_rank._randomized
    outcome = measured(low_rank.ECKART_YOUNG_FLOOR, given, approximate=(mended,), rank=lambda p: 0)
    assert outcome.verdict == "violated"
    assert measured(low_rank.ECKART_YOUNG_FLOOR, given, approximate=(mended,)).verdict == "hypotheses unmet"
    # One among others that keep to the rules is enough.
    for both in ((mended, shipped), (shipped, mended)):
        among = measured(low_rank.ECKART_YOUNG_FLOOR, given, approximate=both, rank=lambda p: 0)
        assert among.verdict == "violated"
        looked_at = measured(low_rank.ECKART_YOUNG_FLOOR, given, approximate=both)
        assert "an approximation has rank 6" in str(looked_at.unmet)


def test_an_output_of_another_shape_or_without_a_number_is_infinitely_far() -> None:
    # All rows are equal, so that one row in their place would be right, were it spread over them.
    given = Ranked(random_head(50, scale=0.0), 1)
    row = measured(low_rank.LOW_RANK_SVD, given, apply=lambda *factors: low_rank.svd_attention(*factors)[:1])

    def hole(*factors: torch.Tensor) -> torch.Tensor:
        out = low_rank.svd_attention(*factors)
        out[-1, -1] = torch.nan
        return out

    assert row.measured == measured(low_rank.LOW_RANK_SVD, given, apply=hole).measured == math.inf


def test_the_bound_of_eckart_and_young_is_that_of_rank_k_and_is_reached() -> None:
    given = Ranked(random_head(9), 3)
    outcome = measured(low_rank.ECKART_YOUNG, given)
    values = torch.linalg.svdvals(given.head.weights())
    assert outcome.bound == pytest.approx(float(values[3]), rel=1e-12)
    assert outcome.tightness == pytest.approx(1, abs=1e-12)
    assert measured(low_rank.ECKART_YOUNG, Ranked(random_head(3), 3)).bound == 0
    # Values of 0 say nothing, and take nothing away.
    nothing = Ranked(replace(given.head, v=0 * given.head.v), 3)
    assert measured(low_rank.ECKART_YOUNG, nothing).measured == pytest.approx(outcome.bound)


def test_one_wrong_projection_among_right_ones_is_seen() -> None:
    given, right, wrong = Ranked(low_rank_head(30, 2), 2), projection.by_definition, projection._left_vectors
    for projects in ((right, wrong), (wrong, right)):
        assert measured(projection.PROJECTION, given, projects=projects).verdict == "violated"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Ranked(random_head(3), 0), "rank 0 is not between 1 and 3"),
        (Ranked(random_head(3, d=2), 3), "rank 3 is above d = 2"),
        (Ranked(random_head(3, causal=True), 1), "causal"),
        (Ranked(random_head(3, d=2), 1), "rank 2, above 1"),
    ],
)
def test_a_projection_that_cannot_be_has_its_reason(given: Ranked, why: str) -> None:
    assert why in str(measured(projection.PROJECTION, given).unmet)
