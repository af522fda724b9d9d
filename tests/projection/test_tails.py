"""Dimensions and failure probabilities: against independent arithmetic, scikit-learn and chance itself."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from layerlab.errors import UserError
from layerlab.projection import tails

COUNTS = (2, 3, 4, 5, 6, 10, 100, 1_797, 10**5, 10**9, 10**12)
EPS = (1e-4, 0.003, 0.01, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.7, 0.9, 0.99, 0.9999)


@pytest.mark.parametrize("dim", [1, 2, 7, 100, 3_000])
@pytest.mark.parametrize("eps", [0.05, 0.3, 0.9])
def test_the_failure_of_a_pair_is_the_integral_of_the_density(dim: int, eps: float) -> None:
    inside, _ = integrate.quad(
        lambda ratio: tails.density_of_ratio(dim, ratio), 1 - eps, 1 + eps, epsabs=1e-12, limit=200
    )
    assert tails.pair_failure(dim, eps) == pytest.approx(1 - inside, abs=1e-9)


def test_the_failure_of_a_pair_far_out_keeps_its_digits() -> None:
    # 40 digits of mpmath: gammainc(2960, 3256, inf) + gammainc(2960, 0, 2664), regularized.
    assert tails.pair_failure(5_920, 0.1) == pytest.approx(7.546416584683684e-08, rel=1e-9)
    # Deep in the tail it is the first term of the upper tail's expansion, to some per cent, and no difference of ones.
    n, eps = 20_000, 0.3
    log = -n / 2 * (eps - math.log1p(eps)) - math.log(eps * math.sqrt(math.pi * n))
    assert math.log(tails.pair_failure(n, eps)) == pytest.approx(log, abs=0.05)


def test_the_failure_of_a_pair_falls_with_the_dimension() -> None:
    for eps in np.linspace(0.003, 0.997, 40):
        values = [tails.pair_failure(n, eps) for n in range(1, 200)]
        assert all(a >= b for a, b in pairwise(values))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("eps", EPS)
def test_the_default_is_never_above_scikit_learn(count: int, eps: float) -> None:
    theirs = int(johnson_lindenstrauss_min_dim(count, eps=eps))
    assert tails.scikit_learn_dimension(count, eps) == theirs
    for kind in tails.KINDS:
        found = tails.dimension(count, eps, kind=kind)
        assert found.dim <= theirs
        assert found.failure <= tails.DEFAULT_FAILURE
    # So is its true failure probability the reason, and 1/9 would not do.
    assert tails.failure(count, theirs, eps) < 0.1118


def test_the_next_smaller_round_default_would_break_the_promise() -> None:
    theirs = int(johnson_lindenstrauss_min_dim(5, eps=0.001))
    assert tails.dimension(5, 0.001, failure=0.1).dim > theirs
    assert tails.failure(5, theirs, 0.001) == pytest.approx(
        20 * stats.norm.sf(math.sqrt(4 * math.log(5))), rel=1e-2
    )


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "sparse"])
@pytest.mark.parametrize("count", [2, 50, 10**6])
@pytest.mark.parametrize("eps", [0.01, 0.3, 0.95])
@pytest.mark.parametrize("allowed", [0.9, 0.01, 1e-30, 1e-200])
def test_the_dimension_is_the_smallest(kind: tails.Kind, count: int, eps: float, allowed: float) -> None:
    found = tails.dimension(count, eps, allowed, kind)
    assert found.proved
    assert found.failure == found.proved_failure == tails.failure(count, found.dim, eps, kind) <= allowed
    assert found.dim == 1 or tails.failure(count, found.dim - 1, eps, kind) > allowed
    if kind != "gaussian":
        assert found.dim <= tails.classic_dimension(count, eps, allowed)


def test_the_moment_rates_are_the_best_of_their_kind_and_never_below_the_classic_one() -> None:
    h = np.linspace(1e-6, 2, 400_001)
    for eps in np.linspace(0.01, 0.99, 25):
        upper, lower = tails._moment_rates(eps)
        assert lower == pytest.approx(-np.min(np.log(1 - h + 1.5 * h * h) + h * (1 - eps)), abs=1e-9)
        # Chernoff for a chi-square, at its best h = ε / (2 (1 + ε)).
        best = eps / (2 * (1 + eps))
        assert upper == pytest.approx(0.5 * math.log(1 - 2 * best) + best * (1 + eps), abs=1e-12)
        assert min(upper, lower) >= (eps**2 / 2 - eps**3 / 3) / 2


def test_signs_fail_less_than_is_proved_by_full_enumeration() -> None:
    # x = (1, 1, 1)/√3: Q² is 3 with probability 1/4 and 1/3 with 3/4, so the sum over n rows is binomial.
    for n in (4, 30, 200):
        hits = np.arange(n + 1)
        ratio = (3 * hits + (n - hits) / 3) / n
        for eps in (0.2, 0.5, 0.9):
            fails = stats.binom.pmf(hits, n, 0.25)[np.abs(ratio - 1) > eps].sum()
            assert fails <= tails.moment_pair_failure(n, eps)


def test_what_is_not_proved_is_not_said_to_be() -> None:
    for kind, density in (("hadamard", 1 / 3), ("sparse", 0.1)):
        for allowed in (None, 0.01):
            found = tails.dimension(100, 0.3, allowed, kind, density)
            assert (found.proved, found.proved_failure) == (False, 1.0)
            assert "certify" in found.basis
            assert found.dim == tails.dimension(100, 0.3, allowed).dim
            # Li's tails are heavier than Gaussian ones.
            assert found.failure == (1.0 if kind == "sparse" else tails.dimension(100, 0.3, allowed).failure)
    signs = tails.dimension(100, 0.3, kind="rademacher")
    assert not signs.proved
    assert signs.failure <= 0.125 < signs.proved_failure


def test_classic_formulas_are_rounded_up() -> None:
    assert tails.document_dimension(1000, 0.1) == math.ceil(800 * math.log(1000))
    exact = 4 * math.log(1000) / (0.1**2 / 2 - 0.1**3 / 3)
    assert (
        tails.classic_dimension(1000, 0.1) == tails.scikit_learn_dimension(1000, 0.1) + 1 == math.ceil(exact)
    )


def test_the_table_of_formulas_says_what_each_leaves() -> None:
    rows = {row.name.partition(":")[0].partition(",")[0]: row for row in tails.formulas(2_000, 0.9, 0.05)}
    assert rows["exact χ² tails"].failure <= 0.05
    assert rows["Dasgupta and Gupta"].promise == pytest.approx(1 - 1 / 2_000)
    # More violations are expected than one: the document's formula is for small ε only.
    assert tails.pair_failure(rows["the document"].dim, 0.9) * 2_000 * 1_999 / 2 > 7
    assert rows["the document"].failure == 1.0


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 10), (10, 10), (125, 1000)])
def test_clopper_pearson_is_the_binomial_test_turned_round(hits: int, trials: int) -> None:
    interval = stats.binomtest(hits, trials).proportion_ci(0.9, method="exact")
    assert tails.clopper_pearson(hits, trials, 0.9) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tails.dimension(1, 0.1), "at least two points"),
        (lambda: tails.dimension(10**41, 0.1), "10\\^40"),
        (lambda: tails.dimension(10, 0.0), "between 0 and 1"),
        (lambda: tails.dimension(10, 1.0), "between 0 and 1"),
        (lambda: tails.dimension(10, math.nan), "between 0 and 1"),
        (lambda: tails.dimension(10, 0.1, 0.0), "failure probability"),
        (lambda: tails.dimension(10, 0.1, 1.0), "failure probability"),
        (lambda: tails.dimension(10, 0.1, math.nan), "failure probability"),
        (lambda: tails.dimension(10, 0.1, kind="fourier"), "a map among"),
        (lambda: tails.dimension(10, 0.1, kind="sparse", density=0.0), "density"),
        (lambda: tails.dimension(10, 1e-10), "raise eps"),
        (lambda: tails.pair_failure(0, 0.1), "dimension of at least 1"),
        (lambda: tails.failure(10, 0, 0.1, "hadamard"), "dimension of at least 1"),
        (lambda: tails.clopper_pearson(3, 2), "hits"),
        (lambda: tails.clopper_pearson(1, 2, 95), "confidence"),
    ],
)
def test_refusals(call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()
