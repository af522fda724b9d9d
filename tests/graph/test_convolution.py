"""The fused linear step of a layer against the plain operators: values, gradients, random words, blocks, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph import ops
from layerlab.graph.convolution import Activation, convolve
from layerlab.graph.kernels import convolution as fused
from layerlab.graph.kernels.operators import ELU, NONE, RELU
from layerlab.graph.kernels.operators import activate as activate_operator
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab import kernels

CODES = {None: NONE, "relu": RELU, "elu": ELU}
ACTIVATIONS: tuple[Activation | None, ...] = (None, "relu", "elu")


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sparse(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> SparseMatrix:
    dense = randn(rows, columns, seed=seed, dtype=dtype)
    return SparseMatrix.from_dense(dense * (randn(rows, columns, seed=seed + 100) > 0.3))


def by_single_operators(
    x: Tensor | SparseMatrix,
    operator: SparseMatrix | None,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation | None,
    p: float,
) -> Tensor:
    """The same step, one operator after the other, drawing the same seed."""
    seed = ops.new_seed() if p else None
    if isinstance(x, SparseMatrix):
        before: Tensor | SparseMatrix = x.with_values(activate_operator(x.values, NONE, seed, p))
    else:
        before = activate_operator(x, CODES[activation], seed, p)
    if operator is None:
        return ops.linear(before, weight, bias)
    return ops.spmm(operator, ops.linear(before, weight), bias)


def gradients(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


def compare(
    x: Tensor | SparseMatrix,
    operator: SparseMatrix | None,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation | None,
    p: float,
) -> None:
    weight = weight.requires_grad_()
    inputs = [weight, *([] if bias is None else [bias.requires_grad_()])]
    if isinstance(x, Tensor):
        inputs.append(x.requires_grad_())
    torch.manual_seed(3)
    out = convolve(x, operator, weight, bias, activation=activation, p=p, training=True)
    assert type(out.grad_fn).__name__ == "_ConvolutionBackward"
    fast = gradients(out, inputs)
    torch.manual_seed(3)
    slow = gradients(by_single_operators(x, operator, weight, bias, activation, p), inputs)
    rounding = {"rtol": 1e-11, "atol": 1e-13} if out.dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, **rounding)


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("width", [1, 7, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_features(p: float, width: int, dtype: torch.dtype) -> None:
    for operator in (None, sparse(9, 20, dtype=dtype), sparse(20, 20, seed=4, dtype=dtype)):
        for bias in (None, randn(width, seed=2, dtype=dtype)):
            x, weight = sparse(20, 50, seed=5, dtype=dtype), randn(width, 50, seed=1, dtype=dtype)
            compare(x, operator, weight, bias, None, p)


@pytest.mark.parametrize("width", [64, 70, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zeros_left_out_change_no_bit(
    width: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = sparse(40, 60, dtype=dtype).to_dense()
    dense[7], dense[:, 11] = 0.0, 0.0  # a row and a column without entries
    dense[9] = 1.0  # the longest row
    x, weight = SparseMatrix.from_dense(dense), randn(width, 60, seed=1, dtype=dtype).requires_grad_()
    bits = []
    for least in (0.55, 1.0):
        monkeypatch.setattr(fused, "_MANY", least)
        torch.manual_seed(1)
        out = convolve(x, None, weight, randn(width, seed=2, dtype=dtype), p=0.6, training=True)
        bits.append([t.numpy().tobytes() for t in gradients(out, [weight])])
    assert bits[0] == bits[1]


def test_zeros_are_left_out_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    run = fused.threads.run

    def watched(function: Any, arguments: Any, parts: Any) -> None:
        asked.append(function)
        run(function, arguments, parts)

    monkeypatch.setattr(fused.threads, "run", watched)
    for width, p, kept in ((64, 0.6, 2), (63, 0.6, 0), (64, 0.5, 0), (64, 0.0, 0)):
        asked.clear()
        compare(sparse(20, 50, seed=5), None, randn(width, 50, seed=1), None, None, p)
        assert sum(function is fused.cpu().spmm_kept for function in asked) == kept


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("block", [1, 64, 1 << 18])
def test_dense_features(p: float, activation: Activation | None, block: int, monkeypatch) -> None:
    monkeypatch.setattr(fused, "_BLOCK", block)
    for dtype in (torch.float32, torch.float64):
        for operator in (None, sparse(9, 20, dtype=dtype)):
            for width in (3, 12, 21):  # more than 11 columns: propagated before the product
                for bias in (None, randn(width, seed=2, dtype=dtype)):
                    x, weight = randn(20, 11, seed=5, dtype=dtype), randn(width, 11, seed=1, dtype=dtype)
                    compare(x, operator, weight, bias, activation, p)


@pytest.mark.parametrize("chunk", [1, 33, 110, 1 << 14])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_of_constant_features(chunk: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_BLOCK", 1)
    monkeypatch.setattr(fused, "_CHUNK", chunk)
    monkeypatch.setattr(fused.threads, "SMALL", 0)
    x = randn(20, 11, seed=5, dtype=dtype)
    for activation in ACTIVATIONS:
        for width in (1, 9, 16):
            results = []
            for count in (0, 1, 2, 3):
                weight = randn(width, 11, seed=1, dtype=dtype).requires_grad_()
                monkeypatch.setattr(torch, "get_num_threads", lambda count=count: max(1, count))
                torch.manual_seed(3)
                if count:
                    out = convolve(x, None, weight, activation=activation, p=0.4, training=True)
                else:
                    out = by_single_operators(x, None, weight, None, activation, 0.4)
                results.append(gradients(out, [weight]))
            rounding = (
                {"rtol": 1e-11, "atol": 1e-13} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
            )
            for a, b in zip(results[0], results[1], strict=True):
                torch.testing.assert_close(a, b, **rounding)
            for other in results[2:]:
                assert all(torch.equal(a, b) for a, b in zip(results[1], other, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("small", [0, 1 << 60])
def test_the_library_and_our_own_products_of_what_was_gathered(
    small: int, activation: Activation | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused.threads, "SMALL", small)
    for bias in (None, randn(40, seed=2)):
        compare(randn(20, 11, seed=5), sparse(9, 20), randn(40, 11, seed=1), bias, activation, 0.4)


def test_what_is_gathered_is_the_narrower_side(monkeypatch: pytest.MonkeyPatch) -> None:
    widths, product = [], fused._product
    monkeypatch.setattr(fused, "_product", lambda *given: widths.append(given[2].shape[1]) or product(*given))
    x, operator = randn(20, 11).requires_grad_(), sparse(9, 20)
    for out, expected in ((40, 11), (3, 3), (11, 11)):
        convolve(x, operator, randn(out, 11).requires_grad_()).sum().backward()
        assert widths == [expected, expected]
        widths.clear()


def test_what_was_gathered_gives_no_gradient_to_constants() -> None:
    x, operator, weight = randn(20, 4), sparse(9, 20), randn(6, 4, seed=1).requires_grad_()
    (convolve(x, operator, weight) ** 2).sum().backward()
    gathered = operator.to_dense() @ x
    assert x.grad is None
    torch.testing.assert_close(weight.grad, 2 * (gathered @ weight.detach().t()).t() @ gathered)


def test_same_as_on_the_plain_path() -> None:
    x, operator, weight, bias = sparse(20, 50), sparse(9, 20), randn(3, 50), randn(3)
    for features in (x, x.to_dense()):
        fast = convolve(features, operator, weight, bias)
        with kernels.disabled():
            torch.testing.assert_close(fast, convolve(features, operator, weight, bias))


def test_constant_inputs_get_no_gradient() -> None:
    x, weight = randn(4, 3), randn(2, 3).requires_grad_()
    (convolve(x, None, weight, randn(2)) ** 2).sum().backward()
    assert x.grad is None
    torch.testing.assert_close(weight.grad, 2 * (x @ weight.detach().t() + randn(2)).t() @ x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("propagates", [True, False])
def test_first_and_second_gradients(activation: Activation | None, propagates: bool) -> None:
    operator = sparse(5, 6) if propagates else None
    inputs = [t.requires_grad_() for t in (randn(6, 4), randn(3, 4, seed=1), randn(3, seed=2))]

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(0)
        return convolve(x, operator, weight, bias, activation=activation, p=0.3, training=True)

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-8)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True, atol=1e-8)


def test_first_and_second_gradients_of_sparse_features() -> None:
    x, operator = sparse(6, 9), sparse(5, 6)
    inputs = [t.requires_grad_() for t in (randn(3, 9, seed=1), randn(3, seed=2))]

    def run(weight: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(0)
        return convolve(x, operator, weight, bias, p=0.3, training=True)

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-8)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True, atol=1e-8)


def test_values_that_are_trained_take_the_operators_one_by_one() -> None:
    x, weight = sparse(6, 9), randn(3, 9).requires_grad_()
    values = x.values.clone().requires_grad_()
    convolve(x.with_values(values), None, weight).sum().backward()
    expected = weight.detach().sum(0)[x.col.long()]
    torch.testing.assert_close(values.grad, expected)


def test_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused.threads, "SMALL", 0)
    x, operator = sparse(300, 200, dtype=torch.float32), sparse(250, 300, seed=3, dtype=torch.float32)
    weight = randn(17, 200, dtype=torch.float32).requires_grad_()
    bits = []
    for count in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        torch.manual_seed(1)
        out = convolve(x, operator, weight, randn(17, dtype=torch.float32), p=0.5, training=True)
        bits.append(np.concatenate([t.numpy().ravel() for t in gradients(out, [weight])]).tobytes())
    assert bits[0] == bits[1] == bits[2]


def test_what_does_not_fit_is_refused() -> None:
    x, operator, weight = randn(4, 3), sparse(4, 4), randn(2, 3)
    for call in (
        lambda: convolve(x, sparse(4, 5), weight),
        lambda: convolve(x, operator, weight, randn(3)),
        lambda: convolve(x, operator, weight, p=1.0, training=True),
        lambda: convolve(x, operator, weight, activation="tanh"),  # type: ignore[arg-type]
        lambda: convolve(sparse(4, 3), operator, weight, activation="relu"),
        lambda: convolve(sparse(4, 5), operator, weight),
        lambda: convolve(x.float(), operator, weight.float()),
    ):
        with pytest.raises(UserError):
            call()


def test_empty_inputs() -> None:
    nothing = SparseMatrix.from_dense(torch.zeros(0, 3))
    weight = torch.ones(2, 3).requires_grad_()
    for x in (nothing, torch.zeros(0, 3)):
        out = convolve(x, None, weight, torch.zeros(2))
        assert out.shape == (0, 2)
        (gradient,) = torch.autograd.grad(out.sum(), [weight])
        assert gradient.shape == (2, 3) and not gradient.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transposing(dtype: type) -> None:
    generator = np.random.default_rng(0)
    for rows in (0, 1, 7, 8, 9, 17):
        for columns in (0, 1, 7, 8, 15, 16, 33):
            matrix = generator.standard_normal((rows, columns)).astype(dtype)
            assert (fused._transposed(matrix) == matrix.T).all()


@pytest.mark.parametrize("width", [*range(1, 18), 40])
def test_small_products(width: int) -> None:
    for rows, depth in ((1, 11), (4, 1), (5, 11), (7, 24)):
        x, weight = randn(rows, depth).requires_grad_(), randn(width, depth, seed=1).requires_grad_()
        upstream = randn(rows, width, seed=2)
        ours, theirs = convolve(x, None, weight), x @ weight.t()
        torch.testing.assert_close(ours, theirs)
        found = torch.autograd.grad(ours, (x, weight), upstream)
        torch.testing.assert_close(found, torch.autograd.grad(theirs, (x, weight), upstream))
