"""The claims about max pooling: on any signal, sharp, and every kind of damage is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import measured, pools

from layerlab.attention.convolution import RelativeAttention
from layerlab.attention.theorems import MAX_POOL, MAX_POOL_AS_PRINTED, MAX_POOL_SHARP, OWN_QUERY_POOL
from layerlab.attention.theorems.pooling import Pool, constant_query, entropy_bound, own_query, sharp_bound
from layerlab.attention.theorems.pooling_printed import MAX_POOL_WEIGHTS_AS_PRINTED, Window
from layerlab.attention.theorems.subjects import gaussian, vector
from layerlab.claims import Claim


@settings(derandomize=True, deadline=None, max_examples=150)
@given(pools())
def test_no_signal_violates_a_true_claim(pool: Pool) -> None:
    for claim in (MAX_POOL, MAX_POOL_SHARP, OWN_QUERY_POOL):
        outcome = measured(claim, pool)
        assert outcome.verdict == "holds" or "too large for float64" in str(outcome.unmet), claim.id


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 33, 1001])
def test_the_sharp_bound_is_the_largest_gap_over_all_windows(size: int) -> None:
    # Of gaps that are all t / c it is t (size - 1) / (e^t + size - 1): the largest over t, on a fine grid.
    t = np.linspace(0, 12, 240_001)
    reached = (t * (size - 1) / (np.exp(t) + size - 1)).max()
    assert sharp_bound(size) == pytest.approx(reached, abs=1e-7)
    assert sharp_bound(size) <= entropy_bound(size)
    # Unequal gaps do no better.
    gaps = np.random.default_rng(size).exponential(1 + sharp_bound(size), (2000, size - 1))
    weights = np.exp(-gaps)
    assert ((gaps * weights).sum(1) / (1 + weights.sum(1))).max(initial=0) <= sharp_bound(size) + 1e-12


@settings(derandomize=True, deadline=None, max_examples=60)
@given(pools())
def test_windows_are_those_of_torchs_max_pool(pool: Pool) -> None:
    k = pool.reach
    padded = torch.nn.functional.pad(pool.x, (k, k), value=-math.inf)
    expected = torch.nn.functional.max_pool1d(padded[None, None], 2 * k + 1, stride=1)[0, 0]
    assert torch.equal(torch.stack([window.max() for window in pool.windows()]), expected)


def test_the_printed_construction_returns_minimum_mean_and_maximum() -> None:
    x = vector(2.0, -3.0, 1.0, 0.0, -1.0, 5.0, 4.0)
    out = own_query(Pool(x, 1, 100.0))
    assert out.tolist() == pytest.approx([2.0, -3.0, 1.0, 0.0, -1.0, 5.0, 5.0])
    assert constant_query(Pool(x, 1, 100.0)).tolist() == pytest.approx([2.0, 2.0, 1.0, 1.0, 5.0, 5.0, 5.0])


@pytest.mark.parametrize("damage", [1e-8, -1e-8, math.nan])
@pytest.mark.parametrize("claim", [MAX_POOL, MAX_POOL_SHARP], ids=lambda claim: claim.id)
def test_an_output_on_the_wrong_side_is_seen(claim: object, damage: float) -> None:
    pool = Pool(torch.zeros(5, dtype=torch.float64), 1, 1.0)

    def off(pool: Pool) -> torch.Tensor:
        out = constant_query(pool)
        out[2] += damage
        return out

    outcome = measured(claim, pool, layers=(constant_query, off))  # type: ignore[arg-type]
    # Below the maximum by so little is within the bound; above it, or no number, is not.
    assert outcome.verdict == ("holds" if damage < 0 else "violated")


def test_the_sharp_bound_is_reached_and_a_query_a_millionth_weaker_passes_it() -> None:
    size = 9
    x = torch.full((size,), -(1 + sharp_bound(size)), dtype=torch.float64)
    x[4] = 0
    pool = Pool(x, 4, 1.0)
    assert measured(MAX_POOL_SHARP, pool).tightness == pytest.approx(1, abs=1e-12)
    scaled = Pool(pool.x, 4, 1.0 + 1e-6)

    def weaker(given: Pool) -> torch.Tensor:
        return constant_query(Pool(given.x, given.reach, 1.0))

    assert measured(MAX_POOL_SHARP, scaled, layers=(weaker,)).verdict == "violated"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(pools())
def test_the_shipped_module_is_the_definition(pool: Pool) -> None:
    module = RelativeAttention.as_max_pool(2 * pool.reach + 1, pool.c, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(module(pool.x[None])[0], constant_query(pool), rtol=1e-10, atol=1e-10)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=9), st.floats(0.1, 5))
def test_printed_weights_add_up_to_the_product_of_two_sums(values: list[float], c: float) -> None:
    values = values if len(values) % 2 else [*values, 0.0]
    own = values[len(values) // 2]
    outcome = measured(MAX_POOL_WEIGHTS_AS_PRINTED, Window(vector(*values), c))
    expected = sum(math.exp(own * x) for x in values) * sum(math.exp(c * c * own * x) for x in values)
    assert outcome.measured == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        (Pool(torch.zeros(0, dtype=torch.float64), 1, 1.0), "not a signal"),
        (Pool(vector(1.0), -1, 1.0), "below 0"),
        (Pool(vector(1.0), 1, -2.0), "not above 0"),
        (Pool(vector(1.0), 1, math.nan), "not above 0"),
        (Pool(vector(0.0), 1, math.inf), "not above 0"),
        (Pool(vector(math.inf), 1, 1.0), "not finite"),
        (Pool(vector(1e6), 1, 1e4), "too large for float64"),
        (Pool(vector(-1e6, 1.0), 1, 1e4), "too large for float64"),
        (Pool(vector(1.5e9), 1, 1.0), "too large for float64"),
    ],
)
def test_unfit_signals_have_their_reason(pool: Pool, why: str) -> None:
    for claim in (MAX_POOL, MAX_POOL_SHARP, OWN_QUERY_POOL, MAX_POOL_AS_PRINTED):
        assert why in str(measured(claim, pool).unmet), claim.id


@pytest.mark.parametrize(
    ("window", "why"),
    [
        (Window(vector(1.0, 2.0), 1.0), "2 k + 1 samples"),
        (Window(vector(1.0), 100.0), "leaves float64"),
        (Window(vector(math.nan), 1.0), "not finite"),
        (Window(vector(-400.0, 1.0, 2.0), 1.0), "leaves float64"),
        (Window(vector(1.0, 1.0, 300.5), 1.0), "leaves float64"),
    ],
)
def test_unfit_windows_have_their_reason(window: Window, why: str) -> None:
    assert why in str(measured(MAX_POOL_WEIGHTS_AS_PRINTED, window).unmet)


@pytest.mark.parametrize(("largest", "c"), [(300.0, 1.0), (2.5, 10.0), (200.0, 0.5)])
def test_windows_whose_exponentials_fit_are_measured(largest: float, c: float) -> None:
    assert measured(MAX_POOL_WEIGHTS_AS_PRINTED, Window(vector(largest, 1.0, 1.0), c)).unmet is None


@pytest.mark.parametrize(("samples", "reach"), [(1, 1), (3, 2), (4, 2)])
def test_no_window_inside_is_no_counterexample(samples: int, reach: int) -> None:
    pool = Pool(-torch.ones(samples, dtype=torch.float64), reach, 100.0)
    assert "no window" in str(measured(MAX_POOL_AS_PRINTED, pool).unmet)


def test_as_printed_speaks_of_whole_windows_only() -> None:
    # At both ends a minimum comes out, inside the maximum.
    inside = measured(MAX_POOL_AS_PRINTED, Pool(vector(-1.0, 3.0, 2.0, 5.0, -1.0), 1, 100.0))
    assert (inside.verdict, inside.bound) == ("holds", math.log(3))
    assert measured(MAX_POOL_AS_PRINTED, Pool(vector(-1.0), 0, 100.0)).bound == 0
    assert measured(MAX_POOL_AS_PRINTED, Pool(gaussian(9), 2, 100.0)).bound == math.log(5)


def test_the_largest_signals_and_scores_are_measured() -> None:
    for pool in (Pool(gaussian(1000), 1, 1.0), Pool(vector(1e9), 0, 1.0)):
        assert pool.unmet() is None
    # Of the printed scores, c² x².
    assert measured(OWN_QUERY_POOL, Pool(vector(3e4), 0, 1.0)).verdict == "holds"
    assert "too large" in str(measured(OWN_QUERY_POOL, Pool(vector(1e3), 0, 100.0)).unmet)


def test_the_printed_scores_have_the_square_of_the_constant() -> None:
    x = vector(0.5, 0.25)
    expected = [float(torch.softmax(9 * own * x, 0) @ x) for own in x.tolist()]
    assert own_query(Pool(x, 1, 3.0)).tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("claim", [MAX_POOL_SHARP, OWN_QUERY_POOL], ids=lambda claim: claim.id)
def test_the_bound_is_that_of_the_widest_window(claim: Claim) -> None:
    for samples, reach, widest in ((9, 1, 3), (9, 2, 5), (4, 2, 4), (9, 0, 1)):
        assert measured(claim, Pool(gaussian(samples), reach, 1.0)).bound == sharp_bound(widest)


@pytest.mark.parametrize("name", ["sharpest-3", "sharpest-201"])
def test_the_sharpest_subjects_reach_the_bound(name: str) -> None:
    outcome = measured(MAX_POOL_SHARP, MAX_POOL_SHARP.subjects[name]())
    assert outcome.tightness == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("claim", [MAX_POOL, MAX_POOL_SHARP], ids=lambda claim: claim.id)
def test_an_output_far_below_its_maximum_is_seen_beside_exact_ones(claim: Claim) -> None:
    def far_below(pool: Pool) -> torch.Tensor:
        out = constant_query(pool)
        out[2] -= 10.0
        return out

    pool = Pool(torch.zeros(5, dtype=torch.float64), 1, 1.0)
    assert measured(claim, pool, layers=(constant_query,)).measured == 0
    assert measured(claim, pool, layers=(constant_query, far_below)).measured == pytest.approx(10)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0.0), (0, 1.5), (1, 1.0), (1, -1.5), (1, -0.3333), (2, 3.0), (2, -2.5), (3, -2.0), (3, 3.5)],
)
def test_a_single_output_is_held_from_both_sides_of_a_zero(place: int, value: float) -> None:
    pool = Pool(vector(1.0, 0.0, -2.0, 3.0), 1, 3.0)

    def one_off(pool: Pool) -> torch.Tensor:
        out = own_query(pool)
        out[place] = value
        return out

    assert measured(OWN_QUERY_POOL, pool).verdict == "holds"
    assert measured(OWN_QUERY_POOL, pool, layer=one_off).verdict == "violated"


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_single_output_on_the_wrong_side_violates(place: int) -> None:
    pool = Pool(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), 1, 1.0)

    def one_too_large(pool: Pool) -> torch.Tensor:
        out = own_query(pool)
        out[place] = 4.5
        return out

    assert measured(OWN_QUERY_POOL, pool).verdict == "holds"
    assert measured(OWN_QUERY_POOL, pool, layer=one_too_large).verdict == "violated"
