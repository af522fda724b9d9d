"""The rank of causal attention: exact elimination, on any head."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import heads, measured

from layerlab.attention.theorems.causal import FULL_RANK_CAUSAL, exact_rank
from layerlab.attention.theorems.subjects import Head, column, random_head, rows


@settings(derandomize=True, deadline=None, max_examples=60)
@given(heads(causal=True, largest=6.0))
def test_any_causal_head_has_full_rank(head: Head) -> None:
    assert measured(FULL_RANK_CAUSAL, head).verdict == "holds"


def _rank_of_fractions(matrix: list[list[float]]) -> int:
    left = [[Fraction(x) for x in row] for row in matrix]
    rank = 0
    while left and left[0]:
        pivot = next((row for row in left if row[0]), None)
        if pivot is not None:
            rank += 1
            left.remove(pivot)
            left = [[x - row[0] / pivot[0] * y for x, y in zip(row, pivot, strict=True)] for row in left]
        left = [row[1:] for row in left]
    return rank


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(
                st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0, 1e-300, 1e300, 0.1]),
                min_size=width,
                max_size=width,
            ),
            min_size=1,
            max_size=6,
        )
    )
)
def test_the_exact_rank_is_that_of_rational_numbers(matrix: list[list[float]]) -> None:
    assert exact_rank(rows(matrix)) == _rank_of_fractions(matrix)


def test_the_exact_rank_is_not_the_numerical_one() -> None:
    nearly = rows([[1.0, 1.0], [1.0, 1.0 + 2.0**-52]])
    assert (exact_rank(nearly), int(torch.linalg.matrix_rank(nearly))) == (2, 1)


def test_a_minor_that_is_one_of_the_primes_takes_no_rank_away() -> None:
    assert exact_rank(rows([[2.0**31, 1.0], [1.0, 2.0**30]])) == 2


def test_halves_are_halves() -> None:
    assert exact_rank(rows([[0.5, 1.0], [1.0, 2.0]])) == 1


def test_how_deep_a_tokens_own_weight_lies_is_counted_in_scaled_scores() -> None:
    # Scores 3 a of the second token and 0 of itself, d = 9.
    def head(a: float) -> Head:
        q, k = torch.ones(2, 9, dtype=torch.float64), torch.ones(2, 9, dtype=torch.float64)
        k[1] = 0
        return Head(a * q, k, torch.ones(2, 1, dtype=torch.float64), causal=True)

    assert measured(FULL_RANK_CAUSAL, head(200.0)).verdict == "holds"
    assert "own weight is exp(-720)" in str(measured(FULL_RANK_CAUSAL, head(240.0)).unmet)
    # A later key is not seen, however large its score is.
    later = Head(column(1000.0, 0.0), column(0.0, 1.0), column(1.0, 1.0), causal=True)
    assert measured(FULL_RANK_CAUSAL, later).verdict == "holds"


@pytest.mark.parametrize(("n", "why"), [(65, "too many"), (0, "no query")])
def test_unfit_lengths_have_their_reason(n: int, why: str) -> None:
    assert why in str(measured(FULL_RANK_CAUSAL, random_head(n, causal=True)).unmet)
