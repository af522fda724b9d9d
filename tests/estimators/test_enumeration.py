"""Outcomes, their values, and the moments made of them."""

from __future__ import annotations

import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.enumeration import Moments, index, joint, outcomes, probabilities, tabulate
from layerlab.estimators.space import Space

SPACES = [Space.parse(5), Space.parse(categories="3x4"), Space.parse(1), Space.parse(categories="1x2")]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.describe())
def test_every_outcome_is_there_once_and_knows_its_number(space: Space) -> None:
    every = outcomes(space)
    assert len({tuple(row) for row in every.tolist()}) == space.outcomes == len(every)
    assert index(space, every).tolist() == list(range(len(every)))
    assert every.dtype == (torch.float64 if space.kind == "bits" else torch.int64)
    assert torch.equal(outcomes(space, 1, 3), every[1:3])


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.describe())
def test_the_law_of_the_outcomes(space: Space) -> None:
    parameters = torch.randn(space.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chances = probabilities(space, parameters)
    every = outcomes(space).long()
    expected = chances[torch.arange(space.size), every].prod(-1)
    torch.testing.assert_close(joint(chances), expected)
    assert float(joint(chances).sum()) == pytest.approx(1, abs=1e-12)


def test_tabulating_calls_once_for_each_outcome_in_blocks() -> None:
    space, sizes, told = Space.parse(15), [], []

    def f(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x @ (2.0 ** torch.arange(14, -1, -1)).double()

    values = tabulate(f, space, lambda share, words: told.append((share, words)))
    assert values.tolist() == list(range(2**15))
    assert sum(sizes) == 2**15 and max(sizes) <= 2**13  # Memory stays bounded.
    assert told[-1] == (1.0, "f of 32,768 of 32,768 outcomes")


@pytest.mark.parametrize(
    ("space", "many"),
    [
        (Space.parse(21), "2,097,152"),
        (Space.parse(40), "1,099,511,627,776"),
        (Space.parse(400), "too many"),
        (Space.parse(gaussian=1), "infinitely many"),
    ],
)
def test_what_is_not_enumerated(space: Space, many: str) -> None:
    with pytest.raises(UserError, match=f"got {many}; measure by samples"):
        tabulate(lambda x: x.sum(-1), space)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.describe())
def test_moments_against_sums_over_outcomes(space: Space) -> None:
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(space.shape, dtype=torch.float64, generator=generator)
    values = torch.randn(space.outcomes or 0, dtype=torch.float64, generator=generator)
    chances = probabilities(space, parameters)
    weights, every = joint(chances), outcomes(space)
    hot = torch.nn.functional.one_hot(every.long(), space.values).double()
    score = every - chances[:, 1] if space.kind == "bits" else hot - chances
    found = Moments.of(space, values, parameters)
    mean = float((weights * values).sum())
    assert found.mean == pytest.approx(mean)
    assert found.variance == pytest.approx(float((weights * (values - mean) ** 2).sum()))
    for q in range(3):
        for r in range(3):
            each = weights * (values - mean) ** q
            torch.testing.assert_close(found.with_score(q, r), torch.tensordot(each, score**r, 1))
    # The gradient of E f, which autograd finds through the probabilities alone.
    leaf = parameters.clone().requires_grad_()
    (joint(probabilities(space, leaf)) * values).sum().backward()
    torch.testing.assert_close(found.gradient(), leaf.grad)
