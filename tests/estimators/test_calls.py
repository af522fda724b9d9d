"""f as batches of distributions call it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.calls import BLOCK, Calls, Table, single
from layerlab.estimators.enumeration import tabulate
from layerlab.estimators.space import Space


def test_rows_of_a_batch_are_handed_over_in_blocks_and_counted() -> None:
    sizes = []

    def f(x: torch.Tensor) -> np.ndarray:
        assert x.shape[1:] == (3,)
        sizes.append(len(x))
        return x.numpy() @ [1.0, 10.0, 100.0]

    calls = Calls(f)
    samples = torch.rand(5, 1000, 3, dtype=torch.float64)
    found = calls(samples)
    torch.testing.assert_close(found, samples @ torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    assert sizes == [BLOCK, 5000 - BLOCK] and calls.evaluations == 5000 and calls.seconds > 0


def test_the_very_same_samples_are_remembered_until_forgotten() -> None:
    calls = Calls(lambda x: x.sum(-1))
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    for samples in (one, other, one.clone()):
        calls(samples)
    assert calls.evaluations == 4
    assert calls(one.reshape(2, 3, 1)[..., 0]).tolist() == [0, 0] and calls.evaluations == 4
    calls.forget()
    calls(one)
    assert calls.evaluations == 6
    calls.values(one)
    assert calls.evaluations == 8  # What is asked for twice on purpose is evaluated twice.


def test_the_derivative_passes_through_blocks() -> None:
    calls = Calls(lambda x: (x**2).sum(-1))
    leaf = torch.rand(3, BLOCK, 2, dtype=torch.float64).requires_grad_()
    calls(leaf * 1).sum().backward()
    torch.testing.assert_close(leaf.grad, 2 * leaf.detach())
    with pytest.raises(UserError, match="autograd finds no way"):
        Calls(lambda x: x.detach().sum(-1))(leaf * 1)


def test_what_f_prints_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        sys.stdout.write("hello\n")
        return x.sum(-1)

    Calls(f)(torch.zeros(1, 2))
    Calls(f)(torch.zeros(1, 2).requires_grad_() * 1)
    assert capsys.readouterr() == ("", "hello\nhello\n")


def test_a_message_names_the_sample() -> None:
    with pytest.raises(UserError, match=r"f returned nan for sample 1: \[1, 1\]"):
        Calls(lambda x: torch.where(x[:, 0] > 0, torch.nan, 0.0))(torch.tensor([[[0.0, 0], [1.0, 1]]]))
    with pytest.raises(UserError, match=r"shape \(2, 1\); expected \(2,\)"):
        Calls(lambda x: x[:, :1])(torch.zeros(1, 2, 3))


def test_a_function_of_one_sample() -> None:
    samples = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for f in (
        lambda x: float(x[0] * x[1]),
        lambda x: x[0] * x[1],
        lambda x: x[:1] * x[1:],
        lambda x: np.float32(x[0] * x[1]),
        lambda x: int(x[0] * x[1]),
    ):
        assert single(f)(samples).tolist() == [2.0, 12.0]
    leaf = samples.clone().requires_grad_()
    Calls(single(lambda x: x[0] * x[1]))(leaf * 1).sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    for f, words in (
        (lambda x: x, r"shape \(2,\) for one sample; expected one number \(without --single"),
        (lambda x: None, "NoneType for one sample"),
        (lambda x: "one", "f returned a str for one sample"),
    ):
        with pytest.raises(UserError, match=words):
            single(f)(samples)


def test_a_table_answers_for_outcomes_and_f_for_the_rest() -> None:
    space = Space.parse(4)
    calls = Calls(lambda x: (x * torch.arange(4.0)).sum(-1))
    table = Table(space, tabulate(calls.values, space), calls)
    paid = calls.evaluations
    samples = (torch.rand(7, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    torch.testing.assert_close(table(samples), (samples * torch.arange(4.0)).sum(-1))
    assert calls.evaluations == paid == 16
    assert table(samples + 0.25).shape == (7, 3) and calls.evaluations == paid + 21
    table((samples * 1).requires_grad_())
    assert calls.evaluations == paid + 42


def test_f_may_write_into_what_it_is_given() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        total = x.sum(-1)
        x.zero_()
        return total

    leaf = torch.ones(2 * BLOCK, 3).requires_grad_()
    Calls(f)(leaf * 1).sum().backward()
    assert leaf.grad is not None and bool((leaf.grad == 1).all())


def test_values_whose_square_overflows_are_refused() -> None:
    with pytest.raises(UserError, match="divide f by a constant"):
        Calls(lambda x: 1e300 * x.sum(-1))(torch.ones(1, 2, dtype=torch.float64))
