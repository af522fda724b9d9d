"""Jacobian operators against dense Jacobians by torch.autograd.functional, and what they leave behind."""

from __future__ import annotations

import copy
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.jacobians import JacobianOperator, Mode, between, jacobian
from layerlab.gradflow.linear_maps import dense
from layerlab.gradflow.singular_values import extreme_singular_values, singular_values
from layerlab.gradflow.trace import Trace

from .models import SUBJECTS, Decoder, Recurrent, mlp, subject


def reference(model: nn.Module, inputs: Any) -> Tensor:
    """The Jacobian of the whole batch, (outputs, inputs), by torch's own code on a copy of the model."""
    model = copy.deepcopy(model)
    if isinstance(model, Decoder):
        tokens = inputs
        model_of = lambda e: _after_embedding(model, e)  # noqa: E731
        x = model.tokens(tokens).detach()
    elif isinstance(inputs, tuple):
        model_of, x = (lambda t: model(t, *inputs[1:])), inputs[0]
    else:
        model_of, x = model, inputs
    full = torch.autograd.functional.jacobian(model_of, x)
    return full.reshape(-1, x.numel())


def _after_embedding(model: Decoder, embedded: Tensor) -> Tensor:
    x = embedded + model.places(torch.arange(embedded.shape[1]))
    for block in model.blocks:
        x = block(x)
    return model.norm(x) @ model.tokens.weight.T


def whole(operator: JacobianOperator) -> Tensor:
    """The blocks put on the diagonal."""
    return torch.block_diag(*dense(operator))


@pytest.mark.parametrize("name", SUBJECTS)
def test_products_agree_with_the_dense_jacobian(name: str) -> None:
    model, inputs = subject(name)
    operator = jacobian(model, inputs)
    expected = reference(model, inputs)
    assert operator.samples == (1 if name in ("gcn", "gat") else len(inputs))
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(whole(operator), expected, rtol=0, atol=1e-11 * float(scale))
    u = torch.randn(operator.samples, operator.rows, dtype=torch.float64)
    torch.testing.assert_close(
        operator.transposed_product(u).flatten(),
        expected.T @ u.flatten(),
        rtol=1e-9,
        atol=1e-11 * float(scale),
    )


@pytest.mark.parametrize("name", SUBJECTS)
def test_extremes_agree_with_the_dense_decomposition(name: str) -> None:
    model, inputs = subject(name)
    operator = jacobian(model, inputs)
    blocks = dense(operator)
    expected = torch.linalg.svdvals(blocks).numpy()
    size = min(operator.rows, operator.columns)
    for method in ("dense", "lanczos"):
        found = extreme_singular_values(operator, method=method, budget=4 * size + 8, tolerance=1e-9)
        np.testing.assert_allclose(found.largest.value, expected[:, 0], rtol=1e-8)
        assert found.largest.converged.all()
        assert found.smallest is not None
        clear = expected[:, -1] > 1e-10 * expected[:, 0]
        np.testing.assert_allclose(found.smallest.value[clear], expected[clear, -1], rtol=1e-6)
        assert (found.smallest.value[~clear] <= 1e-10 * expected[~clear, 0]).all()


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("mode", ["reverse", "forward", "rows"])
def test_every_mode_gives_the_same_products(name: str, mode: Mode) -> None:
    if mode == "forward" and name in ("gcn", "gat"):
        return  # the kernels refuse dual numbers; see test_modes_that_do_not_work_are_refused
    model, inputs = subject(name)
    operator = jacobian(model, inputs, mode=mode)
    assert operator.mode == mode
    torch.testing.assert_close(whole(operator), reference(model, inputs), rtol=1e-9, atol=1e-11)


def test_modes_that_do_not_work_are_refused() -> None:
    model, inputs = subject("gcn")
    with pytest.raises(UserError, match="no way to multiply by the Jacobian from input to output"):
        jacobian(model, inputs, mode="forward")


class Cubed(torch.autograd.Function):
    """x³ with a backward that can be differentiated again, and no forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * g


class CubedOnce(Cubed):
    """The same, to be differentiated once."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * g


class CubedSilently(Cubed):
    """The same through numpy, which loses the dependence on g without a word; forward mode is at hand."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.from_numpy(3 * ctx.saved_tensors[0].detach().numpy() ** 2 * g.detach().numpy())

    @staticmethod
    def jvp(ctx: Any, t: Tensor) -> Tensor:
        return 3 * ctx.x**2 * t


class CubedSilentlyForward(CubedSilently):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x
        ctx.save_for_backward(x)
        return x**3


@pytest.mark.parametrize(
    ("function", "mode"), [(Cubed, "reverse"), (CubedOnce, "rows"), (CubedSilentlyForward, "forward")]
)
def test_custom_functions_choose_the_mode_that_works(function: Any, mode: Mode) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    operator = jacobian(function.apply, x)
    assert operator.mode == mode
    torch.testing.assert_close(dense(operator), torch.diag_embed(3 * x**2))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_nets_choose_plain_kernels_where_fused_ones_fail(
    kind: type[nn.RNNBase], dtype: torch.dtype, mode: Mode
) -> None:
    torch.manual_seed(0)
    model = Recurrent(kind)
    x = torch.randn(2, 4, 3)
    expected = reference(model.double(), x.double())
    operator = jacobian(model.to(dtype), x.to(dtype), mode=mode)
    assert operator.dtype == dtype and operator.mode == mode
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(whole(operator), expected, rtol=0, atol=tolerance)


def test_points_within_a_model() -> None:
    model, x = subject("mlp")
    expected = torch.stack([torch.autograd.functional.jacobian(model[2:4], h) for h in model[:2](x).detach()])
    for start, stop in (("1", "3"), ("2:input", "3"), ("1", "4:input")):
        torch.testing.assert_close(dense(jacobian(model, x, start=start, stop=stop)), expected)
    # The layer before an operation in place is not reached by it.
    torch.testing.assert_close(
        dense(jacobian(model, x, start="1", stop="2")), model[2].weight.detach().expand(3, -1, -1)
    )


def test_many_pairs_in_one_pass_multiply_to_the_whole() -> None:
    model, x = subject("mlp")
    trace = Trace(Call.of(model, x, None, None, 0), ["input", "0", "1", "2", "3", "output"])
    points = trace.points
    product = torch.eye(7, dtype=torch.float64).expand(3, -1, -1)
    for start, stop in pairwise(points):
        product = dense(between(trace, start, stop)) @ product
    torch.testing.assert_close(product, dense(jacobian(model, x)))


def test_a_shared_layer_has_a_point_for_each_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.layer(x)))

    torch.manual_seed(0)
    model, x = Shared().double(), torch.randn(1, 3, dtype=torch.float64)
    h = model.layer(x).detach()
    expected = model.layer.weight * (1 - torch.tanh(h) ** 2)
    found = dense(jacobian(model, x, start="layer", stop="layer#1"))[0]
    torch.testing.assert_close(found, expected.detach())
    with pytest.raises(UserError, match="the module is not called so often"):
        jacobian(model, x, stop="layer#2")


def test_inputs_and_outputs_are_chosen() -> None:
    def model(x: Tensor, *, y: Tensor, flag: Tensor) -> dict[str, Any]:
        return {"sum": x + 2 * y, "pair": (x * y, flag)}

    x, y = torch.randn(2, 3), torch.randn(2, 3)
    inputs = {"x": x, "y": y, "flag": torch.ones(2, dtype=torch.int64)}
    with pytest.raises(UserError, match="choose with wrt= one or a list of 'x', 'y'"):
        jacobian(model, inputs)
    with pytest.raises(UserError, match=r"choose with output= one of 'sum', \('pair', 0\)"):
        jacobian(model, inputs, wrt="x")
    with pytest.raises(UserError, match="no floating-point output"):
        jacobian(model, inputs, wrt="x", output="flag")
    with pytest.raises(UserError, match=r"the input 'flag' is of dtype torch.int64"):
        jacobian(model, inputs, wrt="flag", output="sum")
    found = dense(jacobian(model, inputs, wrt="y", output=("pair", 0))).float()
    torch.testing.assert_close(found, torch.diag_embed(x))
    both = dense(jacobian(model, inputs, wrt=["x", "y"], output="sum"))
    eye = torch.eye(3, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(both, torch.cat([eye, 2 * eye], 2))


def test_the_batch_dimension_may_be_another_one() -> None:
    torch.manual_seed(0)
    model = nn.GRU(3, 4).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    operator = jacobian(model, x, output=0, batch_dim=1)
    full = torch.autograd.functional.jacobian(lambda t: model(t)[0], x)
    for b in range(2):
        torch.testing.assert_close(dense(operator)[b], full[:, b][:, :, :, b].reshape(20, 15))
    assert jacobian(model, x, output=0).samples == 1  # time steps mix
    with pytest.raises(UserError, match="depend on the inputs of other samples"):
        jacobian(model, x, output=0, batch_dim=0)
    with pytest.raises(UserError, match="does not count the same samples"):
        jacobian(model, x, output=0, batch_dim=2)


def test_any_pair_of_samples_that_mixes_is_seen() -> None:
    for i in range(5):
        for j in range(5):
            if i != j:
                mixing = torch.eye(5)
                mixing[i, j] = 1.0
                assert jacobian(lambda x, m=mixing: m @ x, torch.randn(5, 2)).samples == 1
    assert jacobian(lambda x: 2 * x, torch.randn(5, 2)).samples == 5


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_batch_norm_in_train_mode_takes_the_batch_as_one(mode: Mode) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    operator = jacobian(model, x, mode=mode)
    assert operator.samples == 1
    expected = reference(model, x)
    torch.testing.assert_close(dense(operator)[0], expected)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_dropout_has_one_mask_in_all_products(mode: Mode) -> None:
    model, x = nn.Dropout(0.5), torch.ones(1, 40, dtype=torch.float64)
    operator = jacobian(model, x, mode=mode)
    diagonal = dense(operator)[0].diagonal()
    assert sorted(set(diagonal.tolist())) == [0.0, 2.0]
    torch.testing.assert_close(operator.transposed_product(torch.ones(1, 40))[0], diagonal)
    other = dense(jacobian(model, x, mode=mode, seed=1))[0].diagonal()
    assert not torch.equal(other, diagonal)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_nothing_of_the_model_changes(mode: Mode) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.last = 0, None
            self.norm = nn.BatchNorm1d(3)
            self.drop = nn.Dropout()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x
            self.new = x
            self.seen += 1
            self.seen = self.seen + 1
            return self.drop(self.norm(x.mul_(2))) * (random.random() + np.random.rand())  # noqa: NPY002

    torch.manual_seed(0)
    model = Counts()
    x = torch.randn(4, 3)
    before, given = copy.deepcopy(model.state_dict()), x.clone()
    model.norm.weight.grad = torch.ones(3)
    buffers = [id(b) for b in model.buffers()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    operator = jacobian(model, x, mode=mode)
    dense(operator)
    assert model.calls == 0 and model.last is None and not hasattr(model, "new") and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [id(b) for b in model.buffers()] == buffers
    assert torch.equal(model.norm.weight.grad, torch.ones(3)) and model.norm.bias.grad is None
    assert torch.equal(x, given) and x.grad is None and not x.requires_grad
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_inputs_that_are_not_differentiated_are_not_written_to_either() -> None:
    def model(x: Tensor, mask: Tensor) -> Tensor:
        return x * mask.zero_()

    mask = torch.ones(2, 3, dtype=torch.int64)
    jacobian(model, (torch.ones(2, 3), mask))
    assert (mask == 1).all()


def test_parameters_may_be_frozen_and_grad_mode_off() -> None:
    model, x = subject("mlp")
    expected = dense(jacobian(model, x))
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(dense(jacobian(model, x)), expected)
        torch.testing.assert_close(dense(jacobian(model, x, start="0")) @ model[0].weight, expected)


def test_tokens_are_differentiated_from_the_embedding() -> None:
    model, tokens = subject("decoder")
    model.requires_grad_(False)
    operator = jacobian(model, tokens)
    assert (operator.rows, operator.columns) == (5 * 11, 5 * 8)
    causal = dense(operator).reshape(2, 5, 11, 5, 8).abs().sum((2, 4))
    assert (causal.triu(1) == 0).all() and (causal.diagonal(dim1=1, dim2=2) > 0).all()


def test_singular_values_of_a_float32_model() -> None:
    model, x = subject("transformer")
    expected = singular_values(jacobian(model, x))
    found = extreme_singular_values(jacobian(model.float(), x.float()))
    np.testing.assert_allclose(found.largest.value, expected[:, 0], rtol=2e-6)


class _Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing")


class _Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(2)
        return x * self.weight


def _poisoned() -> nn.Module:
    model = mlp()
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    return model


def _overflows() -> nn.Module:
    return nn.Sequential(nn.Identity(), _Exp(), nn.Identity())


class _Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(1000 * x.abs() + 100)


@pytest.mark.parametrize(
    ("model", "inputs", "options", "message"),
    [
        (mlp, torch.ones(2, 6), {}, r"with inputs of shape \(2, 6\), raised RuntimeError: mat1 and mat2"),
        (mlp, torch.ones(0, 7), {}, r"the input 0 is empty: its shape is \(0, 7\)"),
        (mlp, torch.full((1, 7), float("inf")), {}, "the input 0 has entries that are NaN or Inf"),
        (_poisoned, torch.ones(1, 7), {}, r"the parameter 2.weight has entries that are NaN or Inf"),
        (_overflows, torch.ones(1, 7), {}, r"NaN or Inf first appears in the output of 1 \(_Exp\)"),
        (
            lambda: Tensor.float,
            torch.ones(1, 7, dtype=torch.int64),
            {},
            "integers and no embedding was called",
        ),
        (mlp, "text", {}, "expected a tensor among the inputs, got str"),
        (mlp, torch.ones(1, 7), {"stop": "9"}, "the model has no module '9'"),
        (mlp, torch.ones(1, 7), {"start": "a:b:c"}, "expected a point like"),
        (mlp, torch.ones(1, 7), {"start": "3", "stop": "1"}, "does not depend on the one at 3"),
        (mlp, torch.ones(1, 7), {"start": "3", "stop": "3"}, "the path from 3 to 3 is empty"),
        (mlp, torch.ones(1, 7), {"mode": "sideways"}, "expected mode"),
        (
            _Raises,
            torch.ones(1, 7),
            {},
            r"test_jacobians.py:\d+: the model, .* raised KeyError: 'no such thing'",
        ),
        (_Writes, torch.ones(1, 3), {}, "the model writes to its parameter weight"),
        (lambda: nn.LazyLinear(3), torch.ones(1, 3), {}, "the parameter weight has no shape yet"),
        (lambda: 3, torch.ones(1, 3), {}, "expected a torch.nn.Module or a function, got int"),
        (lambda: torch.argmax, torch.ones(1, 3), {}, "returns torch.int64, which is not differentiable"),
        (lambda: Tensor.detach, torch.ones(1, 3), {}, "the value at output is not differentiable"),
        (lambda: lambda x: 3, torch.ones(1, 3), {}, "returns int, in which there is no tensor"),
        (lambda: torch.abs, torch.ones(1, 3), {"stop": "0"}, "needs a torch.nn.Module, got a function"),
    ],
)
def test_bad_input_is_one_line(model: Any, inputs: Any, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        jacobian(model(), inputs, **options)
    assert "\n" not in str(caught.value)


def test_vectors_of_another_shape_are_refused() -> None:
    operator = jacobian(torch.sin, torch.ones(2, 3))
    with pytest.raises(UserError, match=r"expected vectors of shape \(2, 3\), got \(3,\)"):
        operator.product(torch.ones(3))


def test_a_derivative_that_is_not_finite_is_said() -> None:
    with pytest.raises(UserError, match=r"no way to multiply by the Jacobian .* differs from|\|J'u\|"):
        extreme_singular_values(jacobian(torch.sqrt, torch.zeros(1, 3)))


def test_a_model_with_state_is_found_in_forward_mode() -> None:
    state = [0.0]

    def model(x: Tensor) -> Tensor:
        state[0] += 1.0
        return x * state[0]

    with pytest.raises(UserError, match="the model keeps state between calls"):
        jacobian(model, torch.ones(1, 3), mode="forward")


def test_a_derivative_below_the_least_normal_number_is_taken_for_zero() -> None:
    class Hard(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(x, 1)

    x = torch.zeros(2, 4)
    x[:, 0] = 60.0
    found = extreme_singular_values(jacobian(Hard(), x))
    assert (found.largest.value < 1e-20).all()
