"""Spectral norms of convolutions against dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.gradflow.bounds import convolution_norm as subject
from layerlab.gradflow.bounds.convolution_norm import convolution_norm
from layerlab.gradflow.bounds.gains import module_gain


def dense_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    x = torch.zeros(shape, dtype=torch.float64)
    jacobian: Tensor = torch.autograd.functional.jacobian(layer, x)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2))


def layer_of(kind: type[nn.Module], *args: Any, seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return kind(*args, **kwargs, bias=False).double()


@pytest.mark.parametrize(
    ("kind", "settings", "shape"),
    [
        (nn.Conv1d, {"kernel_size": 3, "padding": 1}, (1, 2, 7)),
        (nn.Conv1d, {"kernel_size": 4, "padding": "same"}, (1, 2, 7)),
        (nn.Conv1d, {"kernel_size": 3, "padding": "same", "dilation": 2}, (1, 2, 7)),
        (nn.Conv1d, {"kernel_size": 5, "padding": 2}, (1, 2, 4)),
        (nn.Conv1d, {"kernel_size": 3, "padding": 1, "stride": 2}, (1, 2, 8)),
        (nn.Conv2d, {"kernel_size": 3, "padding": 1}, (1, 2, 5, 6)),
        (nn.Conv2d, {"kernel_size": (3, 1), "padding": (1, 0)}, (1, 2, 5, 6)),
        (nn.Conv2d, {"kernel_size": (3, 5), "padding": (1, 2), "stride": (1, 3)}, (1, 2, 5, 6)),
        (nn.Conv2d, {"kernel_size": 3, "padding": 1, "groups": 2}, (1, 2, 4, 5)),
        (nn.Conv3d, {"kernel_size": 3, "padding": 1}, (1, 2, 3, 4, 3)),
    ],
)
def test_circular_convolutions_are_exact(
    kind: type[nn.Module], settings: dict[str, Any], shape: tuple[int, ...]
) -> None:
    layer = layer_of(kind, 2, 4, **settings, padding_mode="circular")
    found = module_gain(layer, shape)
    assert found is not None
    assert found.reason == "circular convolution: spectral norm, exact"
    assert found.factors()[0] == pytest.approx(dense_norm(layer, shape), rel=1e-10)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"kernel_size": 3, "padding": 0}, (1, 2, 7)),
        ({"kernel_size": 3, "padding": 5}, (1, 2, 7)),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (1, 2, 7)),
        ({"kernel_size": 2, "padding": 1, "stride": 2}, (1, 2, 6)),
    ],
)
def test_other_circular_convolutions_are_bounded(settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer = layer_of(nn.Conv1d, 2, 4, **settings, padding_mode="circular")
    found = module_gain(layer, shape)
    assert found is not None
    assert found.reason == "circular convolution: spectral norm, bound"
    assert dense_norm(layer, shape) <= found.factors()[0] * (1 + 1e-12)


def test_other_modules_are_left_to_their_operations() -> None:
    assert module_gain(nn.Conv2d(2, 2, 3, padding=1), (1, 2, 4, 4)) is None
    assert module_gain(nn.Linear(2, 2), (1, 2)) is None
    softsign = module_gain(nn.Softsign(), (1, 2))
    assert softsign is not None
    assert softsign.factors() == (1.0,)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 4, "stride": 4},
        {"kernel_size": 5, "padding": 2, "stride": 3},
    ],
)
def test_zero_padding_is_within_a_few_per_cent(settings: dict[str, Any], seed: int) -> None:
    layer, shape = layer_of(nn.Conv2d, 3, 4, seed=seed, **settings), (1, 3, 16, 16)
    found, exact = norm_of(layer, shape)
    assert not exact
    assert 1 - 1e-12 <= found / dense_norm(layer, shape) < 1.03


def norm_of(layer: Any, shape: tuple[int, ...]) -> tuple[float, bool]:
    settings = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    return convolution_norm(layer.weight, shape[2:], **settings)


@pytest.mark.parametrize(("cost", "frequencies"), [(1e4, 6), (2e4, 8), (1e5, 16), (3e5, 32)])
def test_fewer_frequencies_still_bound(
    monkeypatch: pytest.MonkeyPatch, cost: float, frequencies: int
) -> None:
    layer, shape = layer_of(nn.Conv2d, 2, 3, kernel_size=3, padding=1), (1, 2, 64, 64)
    full, _ = norm_of(layer, shape)
    monkeypatch.setattr(subject, "_COST", cost)
    layer.weight.data += 1e-17 * cost  # another content: not the norm that is kept
    coarse, _ = norm_of(layer, shape)
    excess = math.cos(math.pi / frequencies) ** -2
    assert excess * 0.99 <= coarse / full <= excess * (1 + 1e-9)


def test_the_worst_polynomial_between_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    """|2 sin θ| is largest in the middle between two of 6 frequencies: without the factor the bound is beaten."""
    kernel = torch.tensor([[[1.0, 0.0, -1.0]]], dtype=torch.float64)
    one = {"stride": [1], "padding": [1], "dilation": [1]}
    monkeypatch.setattr(subject, "_COST", 1.0)
    assert convolution_norm(kernel, [400], **one)[0] == pytest.approx(2.0, rel=1e-12)


def test_degenerate_sizes() -> None:
    empty = torch.zeros(0, 2, 3, dtype=torch.float64)
    one = {"stride": [1], "padding": [1], "dilation": [1]}
    assert convolution_norm(empty, [4], **one)[0] == 0.0
    assert convolution_norm(torch.ones(1, 1, 3), [0], **one) == (0.0, True)
    assert convolution_norm(torch.full((1, 1, 3), math.nan), [4], **one)[0] == math.inf
    assert convolution_norm(torch.ones(1, 1, 1), [4], **one)[0] == 1.0
