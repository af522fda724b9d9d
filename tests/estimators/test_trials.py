"""Repeated estimates against exact variances and gradients: what is measured is what the formulas say."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.bias import bias_test
from layerlab.estimators.calls import Calls, Table
from layerlab.estimators.curves import exact_variances
from layerlab.estimators.enumeration import Moments, tabulate
from layerlab.estimators.estimation import with_options
from layerlab.estimators.estimator import Estimator
from layerlab.estimators.space import Space
from layerlab.estimators.trials import Trials, rows_of, run
from layerlab.estimators.variance import best_baseline, with_mean_of_half

BITS, CATEGORIES = Space.parse(6), Space.parse(categories="3x4")
REPETITIONS, SAMPLES = 4000, 8


def f(x: Tensor) -> Tensor:
    """Neither additive nor symmetric, and far from 0."""
    x = x.double()
    return 2 + x.cumprod(-1).sum(-1) - 2 * x[:, 0] * x[:, 2] + (x.sum(-1) % 2)


@cache
def problem(space: Space) -> tuple[Table, Tensor, Moments]:
    parameters = torch.randn(space.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    calls = Calls(f)
    values = tabulate(calls.values, space)
    return Table(space, values, calls), parameters, Moments.of(space, values, parameters)


def measured(space: Space, *estimators: Estimator) -> list[Trials]:
    table, parameters, _ = problem(space)
    return run(estimators, table, space.family(parameters), SAMPLES, REPETITIONS, seed=1)


@pytest.mark.parametrize("space", [BITS, CATEGORIES], ids=lambda space: space.describe())
def test_unbiased_estimators_pass_and_have_the_variance_of_the_formulas(space: Space) -> None:
    table, _, moments = problem(space)
    exact = exact_variances(table.held, moments, SAMPLES)
    exact["mean, known"], exact["mean"] = exact["mean"], with_mean_of_half(moments, SAMPLES)
    exact["optimal, known"] = exact.pop("optimal")
    chosen = {
        "mean, known": with_options("constant", baseline=moments.mean),
        "optimal, known": with_options("constant", baseline=best_baseline(moments)),
    }
    names = list(exact)
    assert len(names) == (7 if space.kind == "bits" else 5)
    found = measured(space, *(chosen.get(name) or with_options(name) for name in names))
    for name, trials in zip(names, found, strict=True):
        # Within 5 standard errors of the squares; the interval itself has 2.
        error = float(trials.squares.std()) / math.sqrt(REPETITIONS)
        assert abs(trials.variance.mean - exact[name].trace) < 5 * error, name
        assert error < 0.06 * exact[name].trace, name  # A difference of a fifth would be seen.
        each = trials.coordinate_variance() / exact[name].variance
        assert bool((each.log().abs() < 0.4).all()), name
        assert bias_test(trials.estimates, moments.gradient()).passed, name
    # The optimal baseline estimated from the others: unbiased, and no better than the known one.
    (fitted,) = measured(space, with_options("optimal"))
    assert bias_test(fitted.estimates, moments.gradient()).passed
    assert fitted.variance.high > exact["optimal, known"].trace


@pytest.mark.parametrize("space", [BITS, CATEGORIES], ids=lambda space: space.describe())
def test_biased_estimators_fail(space: Space) -> None:
    _, _, moments = problem(space)
    (normalised,) = measured(space, with_options("leave-one-out", normalise=True))
    found = bias_test(normalised.estimates, moments.gradient())
    assert not found.passed and found.p < 1e-6


def test_the_own_sample_in_the_baseline_is_a_bias_that_is_found() -> None:
    """The mean of all values, own one included, shrinks the gradient by 1 - 1/K."""
    _, _, moments = problem(BITS)
    (trials,) = measured(BITS, with_options("leave-one-out"))
    shrunk = trials.estimates * (1 - 1 / SAMPLES)
    assert not bias_test(shrunk, moments.gradient()).passed


def test_intervals_cover_the_variance_as_often_as_they_say() -> None:
    table, parameters, moments = problem(BITS)
    exact = exact_variances(table.held, moments, SAMPLES, ["leave-one-out"])["leave-one-out"].trace
    tests, covered = 300, 0
    for seed in range(tests):
        (found,) = run(
            [with_options("leave-one-out")], table, BITS.family(parameters), SAMPLES, 100, seed=100 + seed
        )
        covered += found.variance.contains(exact)
    # 95 per cent for normal numbers; squares are skewed, which costs a few.
    assert 0.88 <= covered / tests <= 0.99


def test_estimators_that_draw_alike_pay_once() -> None:
    _, parameters, _ = problem(BITS)
    calls = Calls(f)
    estimators = [with_options(name) for name in ("reinforce", "mean", "leave-one-out", "optimal")]
    told: list[float] = []
    found = run(estimators, calls, BITS.family(parameters), 4, 50, 0, lambda share, words: told.append(share))
    assert calls.evaluations == 4 * 50 and told[-1] == 1
    assert not calls._known  # Memory does not grow with the repetitions.
    for trials in found:
        expected = float(trials.estimates.var(0).sum())
        assert trials.variance.mean == pytest.approx(expected) == float(trials.coordinate_variance().sum())
    assert len({float(trials.estimates.sum()) for trials in found}) == 4


def test_the_same_seed_gives_the_same_numbers_and_chunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    table, parameters, _ = problem(BITS)
    family = BITS.family(parameters)

    def estimates(seed: int) -> Tensor:
        return run([with_options("reinforce")], table, family, 4, 10, seed)[0].estimates

    assert torch.equal(estimates(1), estimates(1)) and not torch.equal(estimates(1), estimates(2))
    monkeypatch.setattr("layerlab.estimators.trials._CHUNK", 4 * 6 * 3)
    sizes = []

    class Watched(Table):
        def __call__(self, samples: Tensor) -> Tensor:
            sizes.append(samples.shape[1])
            return super().__call__(samples)

    (found,) = run([with_options("reinforce")], Watched(BITS, table.held, table.calls), family, 4, 10, 1)
    assert sizes == [3, 3, 3, 1] and len(found.estimates) == 10
    assert len(found.estimates.unique(dim=0)) > 5  # Chunks draw different numbers.


def test_rows_and_refusals() -> None:
    for space in (BITS, CATEGORIES, Space.parse(gaussian=3)):
        family = space.family(space.sampled(1, torch.Generator().manual_seed(0))[0])
        rows = rows_of(family, 4)
        assert rows.kind == family.kind and rows.batch_shape == (4,)
        assert all(torch.equal(row, family.parameters) for row in rows.parameters)
    table, parameters, _ = problem(BITS)
    with pytest.raises(UserError, match="at least 2 repetitions"):
        run([with_options("reinforce")], table, BITS.family(parameters), 4, 1, 0)
