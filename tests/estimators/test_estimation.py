"""`estimate`: names, options, batches, torch distributions, and what an estimate tells about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from layerlab.errors import UserError
from layerlab.estimators.distributions import family_of
from layerlab.estimators.estimation import ESTIMATORS, estimate, with_options
from layerlab.estimators.families import Bernoulli, Categorical, Family, Gaussian
from layerlab.estimators.score import LeaveOneOut

FAMILIES: list[Family] = [
    Bernoulli([0.3, -0.4, 1.0]),
    Categorical([[0.3, -0.4, 1.0], [0.0, 0.2, -0.5]], one_hot=True),
    Gaussian([0.3, -0.4, 1.0], [0.1, 0.2, -0.3]),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "constant": {"baseline": 0.5},
    "relax": {"surrogate": lambda z: smooth(z.sigmoid())},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(x: Tensor) -> Tensor:
    """Of three numbers to the sample, or of one-hot rows of three: of their weighted sum."""
    if x.shape[-2:] == (2, 3):
        x = x * torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.9, -1.0]], dtype=x.dtype)
        x = x.sum(-2)
    return (x - 0.3).square().sum(-1) + x[..., 0] * x[..., -1]


def served() -> list[Any]:
    return [
        pytest.param(name, family, id=f"{name}-{family.kind}")
        for name, one in ESTIMATORS.items()
        for family in FAMILIES
        if one.refusal(family) is None
    ]


@pytest.mark.parametrize(("name", "family"), served())
def test_every_estimator_answers_through_one_interface(name: str, family: Family) -> None:
    before = torch.random.get_rng_state()
    gradient, told = estimate(smooth, family, 13, generator(), name, **OPTIONS.get(name, {}))
    assert gradient.shape == family.parameters.shape
    assert gradient.dtype == family.parameters.dtype
    assert told.estimator.name == name
    assert 0 < told.evaluations <= 13
    assert told.evaluations == 13 // ESTIMATORS[name].cost * ESTIMATORS[name].cost
    assert told.standard_error.shape == gradient.shape
    assert told.signal_to_noise == pytest.approx(float(gradient.norm() / told.standard_error.norm()))
    assert bool(torch.isfinite(told.values).all())
    again, _ = estimate(smooth, family, 13, generator(), name, **OPTIONS.get(name, {}))
    assert torch.equal(gradient, again)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("name", "family"), served())
def test_float32_parameters_stay_float32_and_agree(name: str, family: Family) -> None:
    single = family.replaced(family.parameters.float())
    gradient, told = estimate(smooth, single, 6, generator(), name, **OPTIONS.get(name, {}))
    assert gradient.dtype == torch.float32
    assert told.values.dtype == torch.float64
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("name", "family"), served())
def test_rows_of_a_batch_are_estimates_of_their_own(name: str, family: Family) -> None:
    """Two rows with the same distribution: their many estimates agree in mean with many of one."""
    rows = torch.stack([family.parameters, family.parameters * 0.5]).repeat_interleave(4000, 0)
    gradient, told = estimate(smooth, _batch(family, rows), 12, generator(), name, **OPTIONS.get(name, {}))
    assert gradient.shape == rows.shape
    assert told.values.shape[1:] == (8000,)
    assert told.mean.shape == told.best_value.shape == (8000,)
    for row, block in enumerate(gradient.chunk(2)):
        one = family.replaced(rows[row * 4000])
        reference, error = _reference(name, one)
        z = (block.mean(0) - reference) / (block.var(0) / len(block) + error.square()).sqrt()
        assert z.nan_to_num().abs().max() < 4.5


def _batch(family: Family, rows: Tensor) -> Family:
    if family.kind == "gaussian":
        return Gaussian(*rows.unbind(-2))
    return Bernoulli(rows) if family.kind == "bernoulli" else Categorical(rows, one_hot=True)


def _reference(name: str, family: Family) -> tuple[Tensor, Tensor]:
    gradient, told = estimate(smooth, family, 100_000, generator(9), name, **OPTIONS.get(name, {}))
    return gradient, told.standard_error


def test_a_network_gets_its_gradient_from_that_of_its_logits() -> None:
    weights = torch.zeros(4, 3, requires_grad=True)
    inputs = torch.eye(4)[:2]
    logits = inputs @ weights
    gradient, _ = estimate(lambda x: x.sum(-1), Bernoulli(logits), 4000, generator())
    logits.backward(gradient)
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad[:2], torch.full((2, 3), 0.25), rtol=0.0, atol=0.03)
    assert weights.grad[2:].abs().max() == 0.0


def test_torch_distributions_are_taken_as_they_are() -> None:
    logits = torch.tensor([0.3, -0.4], dtype=torch.float64)
    ours, _ = estimate(smooth, Bernoulli(logits), 50, generator())
    theirs, _ = estimate(smooth, distributions.Bernoulli(logits=logits), 50, generator())
    assert torch.equal(ours, theirs)


def test_other_distributions_are_unbiased_by_autograd() -> None:
    rate = torch.tensor([2.0, 0.5], dtype=torch.float64, requires_grad=True)
    family = family_of(distributions.Poisson(rate), parameters=rate)
    gradient, told = estimate(lambda x: x[:, 0] + 3 * x[:, 1], family, 3000, generator())
    z = (gradient - torch.tensor([1.0, 3.0], dtype=torch.float64)) / told.standard_error
    assert z.abs().max() < 4.0
    assert told.standard_error.max() < 0.3


def test_the_best_sample_and_the_mean_are_those_of_the_values() -> None:
    table = torch.tensor([[1.0, 9.0], [5.0, 2.0], [3.0, 3.0]])
    logits = torch.zeros(2, 4)
    _, told = estimate(lambda x: table, Bernoulli(logits), 3, generator())
    assert told.mean.tolist() == [3.0, pytest.approx(14 / 3)]
    assert told.best_value.tolist() == [5.0, 9.0]
    assert torch.equal(told.best_sample, torch.stack([told.samples[1, 0], told.samples[0, 1]]))
    _, single = estimate(lambda x: [1.0, 2.0, 0.0], Bernoulli([0.0, 0.0]), 3, generator())
    assert torch.equal(single.best_sample, single.samples[1])


def test_seconds_are_split_into_those_of_f_and_our_own() -> None:
    def slow(x: Tensor) -> Tensor:
        time.sleep(0.02)
        return x.sum(-1)

    start = time.perf_counter()
    _, told = estimate(slow, Bernoulli([0.0]), 4, generator())
    total = time.perf_counter() - start
    assert 0.02 <= told.f_seconds <= total
    assert 0 < told.overhead_seconds <= total - told.f_seconds


def test_what_f_raises_is_told_with_its_line() -> None:
    def f(x: Tensor) -> Any:
        return {}[1]

    with pytest.raises(UserError, match="f raised KeyError: 1") as caught:
        estimate(f, Bernoulli([0.0]), 4, generator())
    assert Path(str(caught.value.file)).name == Path(__file__).name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimate(sum, Bernoulli([0.0]), 4, generator(), "rloo"),
            "no estimator 'rloo'; there are rein",
        ),
        (lambda: estimate(sum, Bernoulli([0.0]), 4, generator(), 3), "the name of an estimator or an est"),
        (lambda: estimate(sum, Bernoulli([0.0]), 4, generator(), tau=1), "no option 'tau'; it has normalise"),
        (lambda: estimate(3, Bernoulli([0.0]), 4, generator()), "a function of a batch of samples, got int"),
        (lambda: estimate(sum, [0.0], 4, generator()), "expected a Family or a torch distribution, got list"),
        (lambda: estimate(sum, Bernoulli([0.0]), 4, 17), "expected a torch.Generator, got int"),
        (
            lambda: estimate(lambda x: x[:, 0].double() * 1e300, Bernoulli(torch.zeros(1)), 50, generator()),
            "overflows torch.float32: f reaches 1e.300; scale f down",
        ),
    ],
)
def test_wrong_calls_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_an_estimator_can_be_given_with_its_options() -> None:
    estimator = LeaveOneOut(normalise=True)
    one, _ = estimate(smooth, FAMILIES[0], 20, generator(), estimator)
    two, _ = estimate(smooth, FAMILIES[0], 20, generator(), "leave-one-out", normalise=True)
    assert torch.equal(one, two)
    assert with_options(estimator, normalise=False) == LeaveOneOut()
