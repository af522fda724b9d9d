"""The rule of the recommendation, and its sentences."""

from __future__ import annotations

import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.recommend import Candidate, recommend


def exact(name: str, variance: float, **other: object) -> Candidate:
    return Candidate(name, variance, variance, variance, **other)  # type: ignore[arg-type]


PLAIN = exact("reinforce", 4.0)


def test_the_least_variance_wins() -> None:
    found = recommend([PLAIN, exact("leave-one-out", 2.0), exact("disarm", 1.0)], 64)
    assert found.name == "disarm" and found.remarks == ()
    assert (
        found.reason
        == "it has the least variance of all unbiased estimators at 64 evaluations: 0.25 times that of reinforce"
    )


def test_what_cannot_be_run_or_is_biased_is_not_taken() -> None:
    found = recommend(
        [PLAIN, exact("optimal", 0.1, usable=False), exact("straight-through", 0.1, biased=True, bias=2.0)],
        64,
    )
    assert found.name == "reinforce" and "no other has less" not in found.reason


def test_ties_go_to_the_simpler() -> None:
    found = recommend([PLAIN, exact("disarm", 1.0), exact("leave-one-out", 1.009)], 10)
    assert found.name == "leave-one-out"
    assert "the same as disarm, to 1 %" in found.reason and "0.252 times" in found.reason
    assert recommend([PLAIN, exact("disarm", 1.0), exact("leave-one-out", 1.02)], 10).name == "disarm"


def measured(name: str, squares: torch.Tensor) -> Candidate:
    mean = float(squares.mean())
    half = 2 * float(squares.std()) / len(squares) ** 0.5
    return Candidate(name, mean, mean - half, mean + half, squares)


def test_noise_makes_ties_and_pairs_unmake_them() -> None:
    own = torch.distributions.Chi2(torch.tensor(3.0, dtype=torch.float64))
    torch.manual_seed(0)
    one, other = own.sample((200,)), own.sample((200,))
    # Apart by less than the noise of either.
    assert recommend([PLAIN, measured("leave-one-out", one + 0.1), measured("disarm", other)], 9).name == (
        "leave-one-out"
    )
    # On the same samples, the same difference is plain.
    assert (
        recommend([PLAIN, measured("leave-one-out", one + 0.1), measured("disarm", one)], 9).name == "disarm"
    )


def test_an_upper_end_counts_and_not_the_figure() -> None:
    wide = Candidate("rebar", 0.5, 0.0, 6.0)
    assert recommend([PLAIN, wide, exact("leave-one-out", 2.0)], 9).name == "leave-one-out"


def test_what_else_is_said() -> None:
    found = recommend(
        [
            exact("reinforce", 1.0),
            exact("mean", 3.0),
            exact("mean, known", 1.5, usable=False),
            exact("leave-one-out", 1.6),
            exact("straight-through", 0.1, biased=True, bias=0.3),
        ],
        64,
    )
    assert found.name == "reinforce"
    worse, rival = found.remarks
    assert worse.startswith(
        "the mean of f as a baseline is worse than none here, even when it is known: 1.5 times"
    )
    assert rival.startswith("straight-through is biased") and "0.19 times that of reinforce" in rival


@pytest.mark.parametrize("bias", [1.0, float("nan")])
def test_a_rival_of_larger_or_unknown_error_is_not_praised(bias: float) -> None:
    found = recommend([PLAIN, exact("straight-through", 3.5, biased=True, bias=bias)], 64)
    assert found.remarks == ()


def test_nothing_to_reduce() -> None:
    found = recommend([exact("reinforce", 0.0), exact("leave-one-out", 0.0)], 64)
    assert found.name == "reinforce" and "no estimate has any variance" in found.reason


def test_reinforce_is_needed() -> None:
    with pytest.raises(UserError, match="expected plain reinforce"):
        recommend([exact("disarm", 1.0)], 64)
