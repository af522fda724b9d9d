"""Without the private names of torch and numba everything still works, the public way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from layerlab.graph import ops
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab import kernels, private
from layerlab.lab.kernels import jit, registration


class Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func._schema.name))
        return func(*args, **(kwargs or {}))


def product() -> list[Tensor]:
    m = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    out = ops.spmm(m, x)
    out.square().sum().backward()
    assert x.grad is not None
    return [out.detach(), x.grad]


@pytest.mark.parametrize("name", ["dispatch_modes", "transforms_active"])
def test_nobody_says_who_traces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = product()
    monkeypatch.setattr(private, name, None)
    assert not registration.direct(torch.ones(1))
    assert all(torch.equal(a, b) for a, b in zip(product(), expected, strict=True))


def test_no_level_of_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2)
    monkeypatch.setattr(private, "FORWARD_LEVEL", "of_another_version")
    assert kernels.serve(x, None)
    with forward_ad.dual_level():
        assert kernels.serve(x)
        assert not kernels.serve(None, forward_ad.make_dual(x, x))


class _Double(torch.autograd.Function):
    call: Any

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _Double.call(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_no_way_below_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "below_autograd", None)
    double = registration.operator(
        "double_for_a_test(Tensor x) -> Tensor", lambda x: 2 * x, torch.empty_like, _Double
    )
    x = torch.ones(3, requires_grad=True)
    with Watch() as watch:
        out = double(x)
        out.sum().backward()
    assert "layerlab::double_for_a_test_numbers" in watch.names
    assert out.tolist() == [2.0] * 3
    assert x.grad is not None
    assert x.grad.tolist() == [2.0] * 3


def test_a_numba_without_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jit.if_known("nogil", True) == {"nogil": True}
    monkeypatch.setattr(jit, "_UNCOUNTED", jit.if_known("_an_option_of_another_version", False))
    assert jit.inline(lambda x: x + 1)(2) == 3
