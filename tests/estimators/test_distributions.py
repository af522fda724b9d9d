"""torch.distributions as families: known ones in closed form, any other by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from layerlab.errors import UserError
from layerlab.estimators.distributions import family_of
from layerlab.estimators.families import Bernoulli, Categorical, Gaussian


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("distribution", "kind", "batch", "sample"),
    [
        (distributions.Bernoulli(logits=normal(4)), "bernoulli", (), (4,)),
        (distributions.Bernoulli(probs=torch.rand(2, 4)), "bernoulli", (2,), (4,)),
        (distributions.Independent(distributions.Bernoulli(logits=normal(2, 4)), 1), "bernoulli", (2,), (4,)),
        (distributions.Bernoulli(0.3), "bernoulli", (), (1,)),
        (distributions.Categorical(logits=normal(5, 3)), "categorical", (), (5,)),
        (distributions.Categorical(logits=normal(3)), "categorical", (), (1,)),
        (distributions.Categorical(probs=torch.rand(2, 5, 3)), "categorical", (2,), (5,)),
        (distributions.OneHotCategorical(logits=normal(5, 3)), "categorical", (), (5, 3)),
        (
            distributions.Independent(distributions.OneHotCategorical(logits=normal(5, 3)), 1),
            "categorical",
            (),
            (5, 3),
        ),
        (distributions.Normal(normal(2, 3), normal(2, 3).exp()), "gaussian", (2,), (3,)),
    ],
)
def test_known_ones_become_families(
    distribution: Any, kind: str, batch: tuple[int, ...], sample: tuple[int, ...]
) -> None:
    family = family_of(distribution)
    assert family.kind == kind
    assert family.batch_shape == batch
    x = family.sample(3, torch.Generator().manual_seed(0))
    assert x.shape == (3, *batch, *sample)
    wanted = distribution.log_prob(x.reshape(3, *distribution.batch_shape, *distribution.event_shape))
    torch.testing.assert_close(family.log_prob(x).reshape(3, -1).sum(1), wanted.reshape(3, -1).sum(1))


def test_a_family_is_itself() -> None:
    family = Gaussian([0.0], 0.0)
    assert family_of(family) is family


def test_scores_by_autograd_equal_closed_forms() -> None:
    p = torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    family = family_of(distributions.Bernoulli(probs=p), parameters=p)
    q = p.detach()
    torch.testing.assert_close(family.score(x), x / q - (1 - x) / (1 - q))
    torch.testing.assert_close(family.log_prob(x), (x * q.log() + (1 - x) * (1 - q).log()).sum(-1))
    torch.testing.assert_close(family.entropy_gradient(), ((1 - q) / q).log())
    assert family.outcomes() is None


def test_many_samples_are_scored_in_blocks() -> None:
    rate = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    family = family_of(distributions.Poisson(rate), parameters=rate)
    x = family.sample(600, torch.Generator().manual_seed(0))
    torch.testing.assert_close(family.score(x), x / rate.detach() - 1)


class _Unbatched(torch.autograd.Function):
    """Twice its input; torch cannot batch its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return torch.tensor(slope.detach().numpy() * 2.0)


def test_what_torch_cannot_batch_is_scored_one_by_one() -> None:
    half = torch.tensor([1.0, 1.5], dtype=torch.float64, requires_grad=True)
    family = family_of(distributions.Poisson(_Unbatched.apply(half)), parameters=half)
    x = family.sample(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(family.score(x), 2 * (x / (2 * half.detach()) - 1))


def test_several_parameters_count_as_one_vector() -> None:
    mean = normal(3).requires_grad_()
    raw = normal(3, seed=1).requires_grad_()
    distribution = distributions.Independent(distributions.Normal(mean, raw.exp()), 1)
    family = family_of(distribution, parameters=[mean, raw])
    known = Gaussian(mean, raw)
    x = known.sample(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(family.score(x), known.score(x).flatten(1))
    torch.testing.assert_close(family.parameters, known.parameters.flatten())
    torch.testing.assert_close(family.entropy(), known.entropy())


def test_other_distributions_are_drawn_from_the_generator_alone() -> None:
    rate = torch.tensor([2.0, 3.0], requires_grad=True)
    family = family_of(distributions.Poisson(rate), parameters=rate)
    before = torch.random.get_rng_state()
    first, second = (family.sample(4, torch.Generator().manual_seed(1)) for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    third, fourth = (family.sample(4, generator) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert not torch.equal(third, fourth)
    assert torch.equal(before, torch.random.get_rng_state())


def rate() -> Tensor:
    return torch.tensor([2.0], requires_grad=True)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: family_of(distributions.Bernoulli(probs=torch.tensor([0.5, 1.0]))),
            "strictly between 0 and",
        ),
        (
            lambda: family_of(distributions.Categorical(probs=torch.tensor([[0.5, 0.5, 0.0]]))),
            "strictly between",
        ),
        (
            lambda: family_of(distributions.Poisson(torch.ones(2))),
            "score of Poisson is not known.*parameters=",
        ),
        (lambda: family_of(torch.zeros(3)), "expected a Family or a torch distribution, got Tensor"),
        (
            lambda: family_of(distributions.Independent(distributions.Bernoulli(logits=normal(2, 4)), 2)),
            "flatten the parameters",
        ),
        (lambda: family_of(distributions.Poisson(torch.ones(2)), torch.ones(2)), "require gradients"),
        (
            lambda: family_of(distributions.Poisson(rate()), rate()).score(torch.ones(2, 1)),
            "does not depend on the given parameters",
        ),
        (
            lambda: family_of(distributions.Poisson(torch.ones(1)), rate()).score(torch.ones(2, 1)),
            "does not depend on the given parameters",
        ),
        (lambda: family_of(distributions.Poisson(lam := rate()), lam).replaced(lam), "cannot be made anew"),
        (lambda: family_of(distributions.Poisson(lam := rate()), lam).natural(lam), "Fisher information"),
        (lambda: family_of(distributions.Poisson(lam := rate()), lam).entropy(), "torch knows no entropy"),
    ],
)
def test_what_cannot_be_scored_is_refused(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made()


@pytest.mark.parametrize(
    "distribution",
    [
        distributions.Bernoulli(logits=torch.tensor([50.0, 0.0])),
        distributions.Categorical(logits=torch.tensor([[900.0, 0.0]])),
    ],
)
def test_finite_logits_of_a_probability_that_rounds_to_one_are_taken(distribution: Any) -> None:
    assert isinstance(family_of(distribution), Bernoulli | Categorical)
