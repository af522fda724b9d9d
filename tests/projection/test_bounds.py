"""The floors on coherence against configurations that are known to reach them, and the counts."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from layerlab.errors import UserError
from layerlab.projection import bounds
from layerlab.projection.bounds import (
    document_count,
    floor,
    floors,
    is_power_of_four,
    kerdock_count,
    levenshtein,
    most,
    orthoplex,
    rademacher_count,
    rademacher_log_failure,
    welch,
)

GOLDEN = (1 + 5**0.5) / 2

# (field, dim, count, coherence): lines known to be best.
TIGHT = [
    ("real", 2, 3, 0.5),
    ("real", 2, 17, math.cos(math.pi / 17)),
    ("real", 3, 4, 1 / 3),  # the diagonals of the cube
    ("real", 3, 6, 1 / 5**0.5),  # of the icosahedron
    ("real", 7, 28, 1 / 3),  # equiangular
    ("real", 23, 276, 1 / 5),  # equiangular
    ("real", 12, 13, 1 / 12),  # the simplex
    ("real", 4, 12, 0.5),  # Kerdock: the roots of D4
    ("real", 16, 144, 0.25),  # Kerdock
    ("real", 1024, 525_312, 1 / 32),  # Kerdock
    ("real", 6, 36, 0.5),  # the roots of E6
    ("real", 7, 63, 0.5),  # of E7
    ("real", 8, 120, 0.5),  # of E8
    ("real", 22, 1408, 1 / 3),
    ("real", 23, 2300, 1 / 3),
    ("real", 24, 98_280, 0.5),  # the shortest vectors of the Leech lattice, an order of 4
    ("complex", 2, 4, 3**-0.5),  # equiangular, n²
    ("complex", 3, 9, 0.5),
    ("complex", 2, 6, 2**-0.5),  # mutually unbiased bases, n(n+1)
    ("complex", 5, 30, 5**-0.5),
    ("complex", 4, 40, 3**-0.5),  # the Witting polytope
    ("complex", 6, 126, 0.5),
]


@pytest.mark.parametrize(("field", "dim", "count", "coherence"), TIGHT)
def test_floor_is_reached_by_the_best_known_lines(field, dim, count, coherence):
    assert floor(dim, count, field).value == pytest.approx(coherence, rel=1e-12)
    assert not floor(dim, count, field).excludes(coherence)
    assert floor(dim, count + 1, field).excludes(coherence)
    assert most(dim, coherence, field) == count


def test_icosahedron_measured():
    corners = [(0, a, b * GOLDEN) for a, b in itertools.product((1, -1), repeat=2)]
    lines = np.array([corner[i:] + corner[:i] for corner in corners[:2] for i in range(3)])
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    cosines = np.abs(lines @ lines.T)[np.triu_indices(6, 1)]
    assert cosines.max() == pytest.approx(floor(3, 6).value, rel=1e-12)


def test_impossible_request_of_the_issue():
    best = floor(100, 10_000)
    assert best.value == pytest.approx(math.sqrt((30_000 - 10_200) / (102 * 9_900)), rel=1e-14)
    assert f"{best.value:.3f}" == "0.140"
    assert best.name == "Levenshtein, order 2"
    assert best.excludes(0.1)


@pytest.mark.parametrize("field", ["real", "complex"])
@pytest.mark.parametrize("dim", [3, 4, 7, 16, 100, 1000])
def test_orders_meet_where_their_ranges_do(field, dim):
    # The largest count of order m and the first of order m + 1 differ by one vector.
    for order in range(1, 9):
        small, large = order // 2, order - order // 2
        last = (
            math.comb(dim + order, order + 1)
            if field == "real"
            else math.comb(dim + small, small + 1) * math.comb(dim + large - 1, large)
        )
        before, after = levenshtein(dim, last, field), levenshtein(dim, last + 1, field)
        assert (before[1], after[1]) == (order, order + 1)
        assert before[0] * (1 - 1e-12) <= after[0] < before[0] * (1 + 2 / last**0.5)


@pytest.mark.parametrize(("dim", "order"), [(5, 3), (6, 4), (9, 5)])
def test_higher_orders_by_rational_arithmetic(dim, order):
    """The polynomial whose root the bound is, made from exact moments, vanishes there."""
    count = math.comb(dim + order - 1, order) + 7
    value = Fraction(levenshtein(dim, count)[0]) ** 2
    nodes, shift = (order + 1) // 2, (order + 1) % 2
    moments = [Fraction(1)]
    for k in range(1, 2 * nodes + 2):
        moments.append(moments[-1] * (2 * k - 1) / (dim + 2 * k - 2))
    functional = [moment - Fraction(1, count) for moment in moments[shift:]]
    # det [moments i + j; 1 t t² ...] is orthogonal to all polynomials of a lower degree.
    rows = [[functional[i + j] for j in range(nodes + 1)] for i in range(nodes)]

    def polynomial(t):
        return determinant([*rows, [t**j for j in range(nodes + 1)]])

    step = Fraction(1, 10**12)
    assert polynomial(value - step) * polynomial(value + step) < 0
    # and it has no root between there and 1
    signs = {polynomial(value + step + (1 - value - step) * i / 200) > 0 for i in range(200)}
    assert len(signs) == 1


def determinant(matrix):
    if len(matrix) == 1:
        return matrix[0][0]
    return sum(
        (-1) ** j * entry * determinant([row[:j] + row[j + 1 :] for row in matrix[1:]])
        for j, entry in enumerate(matrix[0])
    )


@pytest.mark.parametrize("field", ["real", "complex"])
@pytest.mark.parametrize("dim", [1, 2, 3, 8, 60])
def test_floor_grows_with_the_count_and_is_valid_for_random_vectors(field, dim):
    generator = np.random.default_rng(dim)
    values = [floor(dim, count, field).value for count in (1, 2, 3, 5, 9, 30, 100, 400)]
    assert values == sorted(values)
    vectors = generator.standard_normal((400, dim)) + 1j * generator.standard_normal((400, dim)) * (
        field == "complex"
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for count, value in zip((2, 3, 5, 9, 30, 100, 400), values[1:], strict=True):
        cosines = np.abs(vectors[:count] @ vectors[:count].conj().T)[np.triu_indices(count, 1)]
        assert cosines.max() >= value - 1e-12


@pytest.mark.parametrize("field", ["real", "complex"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_welch_moments_are_those_of_the_sphere(field, order):
    # From the identity Σ abs(<x_i, x_j>)^2k ≥ N² M_k: the bound solved for M_k, against samples of <u, v>.
    dim, count = 4, 10**6
    moment = (welch(dim, count, order, field) ** (2 * order) * (count - 1) + 1) / count
    exact = (
        math.prod(range(1, 2 * order, 2)) / math.prod(range(dim, dim + 2 * order, 2))
        if field == "real"
        else 1 / math.comb(dim + order - 1, order)
    )
    assert moment == pytest.approx(exact, rel=1e-10)


def test_levenshtein_is_never_below_welch_of_the_orders_it_uses():
    for dim, count in itertools.product((3, 5, 17, 64), (20, 200, 5_000, 10**6)):
        if count > dim:
            value, order = levenshtein(dim, count)
            assert value >= max(welch(dim, count, k) for k in range(1, order // 2 + 1) or [1]) - 1e-12


def test_counts_beyond_the_highest_order_get_the_floor_of_fewer(monkeypatch):
    monkeypatch.setattr(bounds, "_HIGHEST_ORDER", 3)
    assert levenshtein(5, 10**9) == levenshtein(5, math.comb(8, 4))
    assert levenshtein(5, math.comb(8, 4))[0] > levenshtein(5, math.comb(8, 4) - 1)[0]


def test_orthoplex_counts_lines_from_the_dimension_of_symmetric_matrices():
    assert orthoplex(10, 55) == 0.0
    assert orthoplex(10, 56) == 10**-0.5
    assert orthoplex(10, 100, "complex") == 0.0
    assert orthoplex(10, 101, "complex") == 10**-0.5
    assert floor(10, 56).name == "orthoplex"


def test_trivial_counts_and_dimensions():
    assert floor(5, 5).value == floor(1, 1).value == 0.0
    assert floor(1, 2).value == floor(1, 10, "complex").value == 1.0
    assert [item.value for item in floors(9, 200)] == sorted([item.value for item in floors(9, 200)])[::-1]
    assert floor(3, 2**63 - 1).value < 1


def test_most_is_the_last_count_not_excluded():
    for dim, coherence in [(3, 0.9), (16, 0.3), (100, 0.1), (100, 0.14), (1024, 0.04), (2, 0.999)]:
        count = most(dim, coherence)
        assert not floor(dim, count).excludes(coherence)
        assert floor(dim, count + 1).excludes(coherence)
    assert most(1000, 0.99) == 2**63 - 1


def test_document_count():
    assert document_count(1000, 0.3) == 2
    assert document_count(1000, 0.5) == 31
    assert document_count(10**9, 0.99) == 2**63 - 2


def test_rademacher_union_bound():
    for dim, coherence in [(100, 0.3), (1000, 0.2), (4096, 0.1)]:
        count = rademacher_count(dim, coherence)
        # N (N-1) exp(-n δ²/2) is below 1 there, and not at 2 N.
        assert rademacher_log_failure(dim, count, coherence) < 0
        assert rademacher_log_failure(dim, 2 * count + 1, coherence) == 0
        few = rademacher_count(dim, coherence, failure=1e-3)
        if few > 1:
            assert rademacher_log_failure(dim, few, coherence) <= math.log(1e-3)
    assert rademacher_count(10**7, 0.9) == 2**63 - 1
    assert rademacher_log_failure(10**9, 2, 0.9) == pytest.approx(math.log(2) - 10**9 * 0.405)
    assert rademacher_log_failure(5, 1, 0.5) == -math.inf


@pytest.mark.parametrize(
    ("dim", "coherence"), [(10, 0.2), (11, 0.35), (1024, 0.25), (1000, 0.3), (4096, 0.5)]
)
def test_exact_tail_of_a_pair(dim, coherence):
    least = math.ceil(dim * (1 - coherence) / 2 - 1e-9)
    expected = binom.logcdf(least - 1, dim, 0.5) + math.log(2)
    assert rademacher_log_failure(dim, 2, coherence, exact=True) == pytest.approx(min(0, expected), rel=1e-9)


def test_exact_tail_beyond_the_smallest_float():
    exact = rademacher_log_failure(4096, 2, 0.9, exact=True)
    # Chernoff's exponent n (ln 2 - H((1 - δ)/2)) up to a logarithm
    p = 0.05
    exponent = 4096 * (math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p))
    assert -exponent - 10 < exact < -exponent
    # At a coherence of more than (n - 2)/n only equal or opposite vectors fail ...
    assert rademacher_log_failure(50, 2, 0.97, exact=True) == pytest.approx(-49 * math.log(2))


def test_powers_of_four():
    assert [dim for dim in range(-1, 5000) if is_power_of_four(dim)] == [4, 16, 64, 256, 1024, 4096]
    assert kerdock_count(1024) == 512 * 1024 + 1024


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: floor(0, 3), "dimension of at least 1, got 0"),
        (lambda: floor(3, 0), "count of at least 1 vector, got 0"),
        (lambda: floor(3, 3, "quaternion"), "'real' or 'complex', got 'quaternion'"),
        (lambda: most(3, 1.0), "between 0 and 1"),
        (lambda: most(3, math.nan), "between 0 and 1"),
        (lambda: document_count(3, 0.0), "between 0 and 1"),
        (lambda: rademacher_count(3, -0.1), "between 0 and 1"),
        (lambda: rademacher_count(3, 0.1, failure=0.0), "failure probability"),
        (lambda: welch(3, 4, 0), "order of Welch's bound"),
        (lambda: kerdock_count(512), "4^k"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match="expected") as error:
        call()
    assert message in str(error.value)
