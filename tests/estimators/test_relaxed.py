"""REBAR, RELAX, Gumbel-softmax and the relaxation behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.draws import drawn, exponential
from layerlab.estimators.estimation import estimate
from layerlab.estimators.families import Bernoulli, Categorical, Family
from layerlab.estimators.relaxation import free, latent, latent_of, to_parameters
from layerlab.estimators.relaxed import GumbelSoftmax, Rebar, Relax, Surrogate
from layerlab.estimators.score import Reinforce

BITS = Bernoulli([0.4, -1.1])
HOT = Categorical([[0.1, -0.5, 1.2], [0.3, 0.3, -1.0]], one_hot=True)
FAMILIES = [pytest.param(BITS, id="bits"), pytest.param(HOT, id="categories")]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(x: Tensor) -> Tensor:
    if x.shape[-1] == 3:
        weights = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.9, -1.0]], dtype=x.dtype)
        return ((x * weights).sum((-2, -1)) - 0.3) ** 2 + x[..., 0, 0] * x[..., 1, 2]
    return (x[..., 0] - 0.45) ** 2 + x.prod(-1) - (0.3 * x[..., 1]).exp()


def gradient(family: Family, f: Callable[[Tensor], Tensor] = smooth) -> Tensor:
    outcomes = family.outcomes()
    assert outcomes is not None
    return (family.spread(family.log_prob(outcomes).exp() * f(outcomes)) * family.score(outcomes)).sum(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_behind_a_sample_has_the_law_of_the_relaxation(family: Any) -> None:
    behind = latent(family, 60_000, generator())
    free = family.parameters if family.kind == "bernoulli" else family.log_probabilities
    if family.kind == "bernoulli":
        assert torch.equal((behind.z > 0).double(), behind.hard)
        below = torch.sigmoid(behind.z - free)  # logistic: uniform
    else:
        assert torch.equal(behind.z.argmax(-1), behind.hard.argmax(-1))
        below = torch.exp(-torch.exp(free - behind.z))  # Gumbel: uniform
    # Kolmogorov-Smirnov, coordinate by coordinate; 1.95 is passed by chance once in a thousand.
    ordered = below.sort(0).values
    grid = torch.linspace(0, 1, len(below), dtype=torch.float64)[(..., *[None] * (below.ndim - 1))]
    assert ((ordered - grid).abs().amax(0) * len(below) ** 0.5).max() < 1.95


@pytest.mark.parametrize("family", FAMILIES)
def test_the_path_given_the_sample_is_that_of_autograd(family: Any) -> None:
    behind = latent(family, 5, generator(3))
    shape = behind.z.shape
    noise = torch.rand(shape, generator=generator(4), dtype=torch.float64)
    behind = latent_of(family, behind.hard, noise)
    slopes = torch.randn(shape, generator=generator(5), dtype=torch.float64)
    logits = family.parameters.expand(shape).clone().requires_grad_()
    # Straight from the definition: through the distribution function of z, truncated to the side of the sample.
    if family.kind == "bernoulli":
        p = logits.sigmoid()
        u = torch.where(behind.hard > 0.5, 1 - p + p * noise, (1 - p) * (1 - noise))
        z = logits + torch.logit(u)
        free = logits
    else:
        free = torch.log_softmax(logits, -1)
        first = (noise * behind.hard).sum(-1, keepdim=True)
        z = -torch.where(behind.hard > 0.5, first.expand(shape), noise / free.exp() + first).log()
    torch.testing.assert_close(behind.z, z.detach(), rtol=1e-9, atol=1e-9)
    (wanted,) = torch.autograd.grad(((free - z) * slopes).sum(), logits)
    found = to_parameters(family, behind.remaining * slopes)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


def quadrature(estimator: Any, f: Callable[[Tensor], Tensor] = smooth) -> Tensor:
    """The expectation over both bits and both noises, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(160)
    # v = 1 - t^3 clears the logarithm at v = 1.
    t = torch.from_numpy((nodes + 1) / 2)
    v, w = 1 - t**3, torch.from_numpy(weights / 2) * 3 * t**2
    noise = torch.cartesian_prod(v, v)
    area = torch.cartesian_prod(w, w).prod(-1)
    total = torch.zeros(2, dtype=torch.float64)
    outcomes = BITS.outcomes()
    assert outcomes is not None
    for hard in outcomes:
        behind = latent_of(BITS, hard.expand(len(noise), 2), noise)
        terms = estimator.from_latent(f, BITS, behind).terms
        total += BITS.log_prob(hard).exp() * (area[:, None] * terms).sum(0)
    return total


@pytest.mark.parametrize(
    "estimator",
    [
        Rebar(eta=1.0),
        Rebar(eta=0.4, temperature=0.8),
        Relax(surrogate=lambda z: (0.7 * z).sin().sum(-1) + z[..., 0] * z[..., 1].tanh()),
    ],
    ids=["rebar", "rebar-other", "relax"],
)
def test_control_variates_leave_the_expectation(estimator: Any) -> None:
    torch.testing.assert_close(quadrature(estimator), gradient(BITS), rtol=0.0, atol=2e-6)


def test_a_path_left_out_is_found_by_the_same_quadrature() -> None:
    class Careless(Rebar):
        def from_latent(self, f: Any, family: Any, behind: Any) -> Any:
            from dataclasses import replace

            return super().from_latent(f, family, replace(behind, remaining=torch.ones_like(behind.z)))

    assert (quadrature(Careless(eta=1.0)) - gradient(BITS)).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "options", "biased"),
    [
        ("rebar", {}, False),
        ("rebar", {"eta": 1.0, "temperature": 0.3}, False),
        ("relax", {"surrogate": lambda z: smooth(torch.tanh(z))}, False),
        ("gumbel-softmax", {}, True),
        ("straight-through", {}, True),
    ],
)
def test_the_unbiased_pass_and_the_biased_fail_at_a_fixed_number(
    family: Any, name: str, options: dict[str, Any], biased: bool
) -> None:
    found, told = estimate(smooth, family, 200_000, generator(), name, **options)
    z = ((found - gradient(family)) / told.standard_error).abs().max()
    assert told.estimator.biased == biased
    assert (z > 8) if biased else (z < 4)


def test_the_fitted_eta_is_unbiased_with_few_draws() -> None:
    family = Bernoulli(BITS.logits.expand(60_000, 2))
    terms = Rebar().terms(smooth, family, 4, generator())
    z = (terms.gradient.mean(0) - gradient(BITS)) / (terms.gradient.std(0) / 60_000**0.5)
    assert z.abs().max() < 4


def test_the_fitted_eta_is_that_of_the_other_draws() -> None:
    behind = latent(BITS, 6, generator())
    plain = Rebar(eta=0.0).from_latent(smooth, BITS, behind).terms
    control = plain - Rebar(eta=1.0).from_latent(smooth, BITS, behind).terms
    found = Rebar().from_latent(smooth, BITS, behind).terms
    for i in range(6):
        others = [j for j in range(6) if j != i]
        eta = (plain[others] * control[others]).sum() / control[others].square().sum()
        torch.testing.assert_close(found[i], plain[i] - eta * control[i])


def variance(estimator: Any, f: Callable[[Tensor], Tensor], family: Any, samples: int) -> float:
    """Of the whole gradient at so many evaluations."""
    many = Bernoulli(family.logits.expand(6_000, *family.logits.shape))
    return float(estimator.terms(f, many, samples, generator(1)).gradient.var(0).sum())


def toy(x: Tensor) -> Tensor:
    """The toy problem of Tucker et al."""
    return (x - 0.45).square().sum(-1)


def test_rebar_varies_less_than_reinforce_at_equal_cost_on_a_smooth_toy() -> None:
    # With one or two bits it does not: a draw costs two evaluations, and f is near its minimum between the outcomes.
    family = Bernoulli(torch.linspace(-2, 2, 8, dtype=torch.float64))
    plain = variance(Reinforce(), toy, family, 20)
    fitted = variance(Rebar(), toy, family, 20)
    assert fitted < 0.2 * plain
    assert fitted < variance(Rebar(eta=1.0), toy, family, 20) < variance(Rebar(eta=0.5), toy, family, 20)


def test_a_surrogate_that_learns_lowers_the_variance_and_stays_unbiased() -> None:
    family = Bernoulli([0.3, -0.2, 1.0])
    surrogate = Surrogate(family, generator())
    before = variance(Relax(surrogate=surrogate), toy, family, 4)
    assert before == pytest.approx(variance(Reinforce(), toy, family, 4), rel=0.1)
    optimizer = torch.optim.Adam(surrogate.parameters(), lr=0.02)
    draws = generator()
    for _ in range(150):
        estimate(toy, family, 32, draws, "relax", surrogate=surrogate, optimizer=optimizer)
    assert variance(Relax(surrogate=surrogate), toy, family, 4) < 0.4 * before
    found, told = estimate(toy, family, 100_000, generator(2), "relax", surrogate=surrogate)
    assert ((found - gradient(family, toy)) / told.standard_error).abs().max() < 4


def test_an_estimate_is_formed_before_the_surrogate_learns() -> None:
    results = []
    for learns in (False, True):
        surrogate = Surrogate(BITS, generator())
        torch.nn.init.constant_(surrogate.out, 0.3)
        optimizer = torch.optim.SGD(surrogate.parameters(), lr=0.1) if learns else None
        found, _ = estimate(smooth, BITS, 16, generator(), "relax", surrogate=surrogate, optimizer=optimizer)
        results.append(found)
        assert (surrogate.out != 0.3).any() == learns
    assert torch.equal(*results)


def test_surrogates_serve_batches_and_integer_categories() -> None:
    batch = Categorical(torch.zeros(4, 2, 3))
    surrogate = Surrogate(batch, generator())
    optimizer = torch.optim.SGD(surrogate.parameters(), lr=0.1)
    found, told = estimate(
        lambda x: x.sum(-1), batch, 8, generator(), "relax", surrogate=surrogate, optimizer=optimizer
    )
    assert found.shape == (4, 2, 3)
    assert told.samples.dtype == torch.int64
    assert bool((surrogate.out != 0).any())


def test_extreme_logits_stay_finite() -> None:
    for family in (Bernoulli([300.0, -300.0]), Bernoulli(torch.tensor([60.0, -60.0]))):
        for estimator in (Rebar(), Rebar(eta=1.0), GumbelSoftmax()):
            terms = estimator.terms(toy, family, 400, generator())
            assert bool(torch.isfinite(terms.terms).all())
    hot = Categorical([[500.0, 0.0, -500.0]], one_hot=True)
    terms = Rebar().terms(lambda x: (x * 2).sum((-2, -1)).square(), hot, 400, generator())
    assert bool(torch.isfinite(terms.terms).all())


def staircase(x: Tensor) -> Any:
    return x.detach().numpy().round().sum(-1)


def picky(x: Tensor) -> Tensor:
    if not bool(((x == 0) | (x == 1)).all()):
        raise ValueError("bits only")
    return x.sum(-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimate(staircase, BITS, 8, generator(), "rebar"),
            "needs the derivative of f.*leave-one-out",
        ),
        (lambda: estimate(staircase, BITS, 8, generator(), "gumbel-softmax"), "needs the derivative of f"),
        (lambda: estimate(staircase, BITS, 8, generator(), "straight-through"), "needs the derivative of f"),
        (lambda: estimate(picky, BITS, 8, generator(), "rebar"), r"\.py:\d+: f raised ValueError: bits only"),
        (lambda: estimate(toy, BITS, 3, generator(), "rebar"), "rebar needs at least 4 samples"),
        (lambda: estimate(toy, BITS, 1, generator(), "rebar", eta=1.0), "rebar needs at least 2 samples"),
        (lambda: estimate(toy, BITS, 8, generator(), "rebar", eta=float("nan")), "a finite eta"),
        (
            lambda: estimate(toy, BITS, 8, generator(), "rebar", temperature=0.0),
            "positive finite temperature",
        ),
        (
            lambda: estimate(toy, BITS, 8, generator(), "gumbel-softmax", temperature="x"),
            "temperature, got 'x'",
        ),
        (
            lambda: estimate(toy, Categorical([[0.0, 1.0]]), 8, generator(), "rebar"),
            "integers do not have; take Categorical.logits, one_hot=True.",
        ),
        (lambda: estimate(toy, BITS, 8, generator(), "relax"), "relax needs the option surrogate="),
        (
            lambda: estimate(toy, BITS, 8, generator(), "relax", surrogate=lambda z: z),
            r"shape \(8,\) for z of \(8, 2\), got \(8, 2\)",
        ),
        (
            lambda: estimate(toy, BITS, 8, generator(), "relax", surrogate=lambda z: z.detach().sum(-1)),
            "a differentiable tensor",
        ),
        (
            lambda: estimate(toy, BITS, 8, generator(), "relax", surrogate=lambda z: z.sum(-1) * torch.inf),
            "surrogate or its derivative is not finite",
        ),
        (
            lambda: estimate(toy, BITS, 8, generator(), "relax", surrogate=lambda z: 1 / 0),
            "the surrogate raised ZeroDivisionError",
        ),
        (
            lambda: estimate(
                toy,
                BITS,
                8,
                generator(),
                "relax",
                surrogate=lambda z: z.sum(-1),
                optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)]),
            ),
            "does not depend on what the optimizer holds",
        ),
    ],
)
def test_what_relaxations_cannot_do_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clocks_say_what_logarithms_say(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.3, -2.0, 1.0], [0.0, 20.0, -20.0]], dtype=dtype)
    family, seeded = Categorical(logits), generator()
    hard = family.sample(50, seeded)
    noise = drawn(exponential, (50, 2, 3), seeded, logits)
    found = latent_of(family, hard, noise)
    hot, clocks = family.hot(hard) > 0.5, noise.log()
    first = torch.where(hot, clocks, 0).sum(-1, keepdim=True)
    z = -torch.where(hot, first, torch.logaddexp(clocks - family.log_probabilities, first))
    remaining = torch.where(hot, 1.0, torch.sigmoid(first - clocks + family.log_probabilities))
    torch.testing.assert_close(found.z, z, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)
    torch.testing.assert_close(
        found.remaining, remaining, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=0
    )
    assert (found.z.argmax(-1) == hard).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_category_that_never_comes_stays_finite(dtype: torch.dtype) -> None:
    family = Categorical(torch.tensor([[0.0, -2000.0]], dtype=dtype))
    behind = latent(family, 100, generator())
    assert behind.z.isfinite().all() and behind.remaining.isfinite().all()
    assert free(family, 100, generator()).isfinite().all()


def test_z_alone_has_the_law_of_z_with_its_sample() -> None:
    for family in (Bernoulli([0.7]), Categorical([[0.7, -0.4, 0.0]])):
        alone = free(family, 4000, generator()).flatten(1).numpy()
        behind = latent(family, 4000, generator(1)).z.flatten(1).numpy()
        for one, other in zip(alone.T, behind.T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > 1e-3
