"""A user's f, and all that it may do wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.values import Meter, differentiated, evaluated

X = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum(-1),
        lambda x: x.sum(-1).to(torch.int64),
        lambda x: x.sum(-1).to(torch.float16),
        lambda x: x.sum(-1).numpy(),
        lambda x: x.sum(-1).tolist(),
        lambda x: [int(v) for v in x.sum(-1)],
        lambda x: tuple(row.sum() for row in x),
        lambda x: [np.float32(row.sum()) for row in x.numpy()],
        lambda x: np.array([1, 2, 1], dtype=object),
        lambda x: torch.nn.Parameter(x.sum(-1)),
    ],
)
def test_tensors_arrays_and_lists_are_values(f: Callable[[Tensor], Any]) -> None:
    values = evaluated(f, X)
    assert values.dtype == torch.float64
    assert not values.requires_grad
    assert values.tolist() == [1.0, 2.0, 1.0]


def test_bools_and_huge_integers_are_values() -> None:
    assert evaluated(lambda x: x.sum(-1) > 1, X).tolist() == [0.0, 1.0, 0.0]
    assert evaluated(lambda x: [True, False, True], X).tolist() == [1.0, 0.0, 1.0]
    assert evaluated(lambda x: [10**30, 0, 1], X).tolist() == [1e30, 0.0, 1.0]


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x.sum(-1, keepdim=True), r"shape \(3, 1\); expected \(3,\).*add .squeeze\(-1\)"),
        (lambda x: x.sum(), r"the shape \(\); expected \(3,\)"),
        (lambda x: 1.0, r"the shape \(\); expected \(3,\)"),
        (lambda x: x, r"the shape \(3, 2\)"),
        (lambda x: [], r"the shape \(0,\)"),
        (lambda x: x.sum(-1)[:2], r"the shape \(2,\)"),
        (lambda x: [1.0, math.nan, 2.0], r"f returned nan for sample 1: \[1, 1\]"),
        (lambda x: [1.0, 2.0, -math.inf], r"f returned -inf for sample 2: \[1, 0\]"),
        (lambda x: x.sum(-1) * 1j, "complex"),
        (lambda x: [1j, 1, 2], "complex"),
        (lambda x: None, "f returned None; expected real numbers"),
        (lambda x: ["1", "2", "3"], "f returned a list; expected real numbers"),
        (lambda x: [1.0, None, 2.0], "f returned a list; expected real numbers"),
        (lambda x: [[1.0], [1.0, 2.0], [3.0]], "rows of unequal length"),
        (lambda x: [torch.ones(1), torch.ones(2), torch.ones(1)], "stacking the list that f returned"),
        (lambda x: {"value": 1}, "f returned a dict"),
    ],
)
def test_other_answers_are_refused_with_the_reason(f: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluated(f, X)


def test_what_f_raises_has_its_file_and_line() -> None:
    def f(x: Tensor) -> Tensor:
        raise KeyError("weights")

    with pytest.raises(UserError, match="f raised KeyError: 'weights'") as caught:
        evaluated(f, X)
    assert caught.value.file is not None
    assert Path(caught.value.file).name == Path(__file__).name
    assert caught.value.line == f.__code__.co_firstlineno + 1


def test_f_may_overwrite_what_it_is_given_and_records_no_gradients() -> None:
    weights = torch.ones(2, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return (x.mul_(2) @ weights).sub_(1)

    x = X.clone()
    assert evaluated(f, x).tolist() == [1.0, 3.0, 1.0]
    assert torch.equal(x, X)


def test_values_of_a_batch_have_its_shape() -> None:
    x = torch.ones(3, 4, 2)
    assert evaluated(lambda x: x.sum(-1), x, (4,)).shape == (3, 4)
    with pytest.raises(UserError, match=r"shape \(3,\); expected \(3, 4\)"):
        evaluated(lambda x: x.sum((-1, -2)), x, (4,))
    with pytest.raises(UserError, match=r"nan for sample \(2, 1\)"):
        evaluated(lambda x: torch.tensor(math.nan).where(torch.arange(12).reshape(3, 4) == 9, 0.0), x, (4,))


def test_derivatives_are_those_of_autograd() -> None:
    def f(x: Tensor) -> Tensor:
        return (x.mul_(3).sin() * torch.tensor([1.0, 2.0])).sum(-1)

    values, slopes = differentiated(f, X)
    torch.testing.assert_close(slopes, 3 * (3 * X).cos() * torch.tensor([1.0, 2.0]))
    assert values.dtype == torch.float64
    with torch.no_grad():
        again, _ = differentiated(f, X)
    assert torch.equal(values, again)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x.detach().numpy().sum(-1), "needs the derivative of f, but f returned a ndarray"),
        (lambda x: x.sum(-1).round().long(), "a tensor of torch.int64 that autograd cannot follow"),
        (lambda x: x.detach().sum(-1), "such as leave-one-out"),
        (lambda x: x.numpy().sum(-1), "f raised RuntimeError: Can't call numpy"),
        (lambda x: x.sqrt().sum(-1), r"derivative of f is not finite at sample 0: \[0, 1\]"),
    ],
)
def test_what_has_no_derivative_is_refused(f: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        differentiated(f, X)


def test_a_derivative_of_zero_is_one() -> None:
    weights = torch.ones(3, requires_grad=True)
    _, slopes = differentiated(lambda x: weights * 2, X)
    assert slopes.tolist() == [[0.0, 0.0]] * 3


def test_a_meter_counts_samples_and_seconds_and_what_raises() -> None:
    meter = Meter(lambda x: x.sum(-1))
    evaluated(meter, X)
    evaluated(meter, X[:1])
    assert meter.evaluations == 4
    assert meter.seconds > 0
    broken = Meter(lambda x: 1 / 0)
    with pytest.raises(UserError, match="ZeroDivisionError"):
        evaluated(broken, X)
    assert broken.evaluations == 3
    with pytest.raises(UserError, match="expected a function of a batch of samples, got int"):
        Meter(3)
