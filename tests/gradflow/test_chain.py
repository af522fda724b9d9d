"""Products over depth in log space, against sums of logarithms and the direct decomposition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.gradflow.chain import Product, log_extreme_singular_values
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.jacobi import log_singular_values
from layerlab.gradflow.jacobians import between
from layerlab.gradflow.linear_maps import DenseMap
from layerlab.gradflow.trace import Trace

DEPTH = 200


def planted(width: int, depth: int, low: float, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """U_l D_l U_(l−1)ᵀ with U_l orthogonal: the product's singular values are products of the D_l."""
    rng = np.random.default_rng(seed)
    turns = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(depth + 1)]
    values = rng.uniform(low, 1.0, (depth, width))
    factors = [(turns[i + 1] * values[i]) @ turns[i].T for i in range(depth)]
    return factors, np.sort(np.log(values).sum(0))[::-1]


@pytest.mark.parametrize(("width", "low"), [(1, 0.1), (6, 0.01), (33, 0.2)])
def test_all_values_of_a_deep_product(width: int, low: float) -> None:
    factors, expected = planted(width, DEPTH, low)
    assert expected[-1] < -80
    np.testing.assert_allclose(log_singular_values(factors), expected, rtol=0, atol=1e-10)


def test_diagonal_factors_far_apart() -> None:
    """Values e^(−1400) : 1 apart, in no order."""
    rng = np.random.default_rng(0)
    diagonals = np.exp(rng.uniform(-9, 0, (DEPTH, 5)) * np.array([0.1, 1.5, 0.0, 0.7, 1.5]))
    expected = np.sort(np.log(diagonals).sum(0))[::-1]
    assert expected[-1] < -1300
    np.testing.assert_allclose(log_singular_values([np.diag(d) for d in diagonals]), expected, atol=1e-8)


@pytest.mark.parametrize("shapes", [(7, 9, 8, 5), (5, 8, 9, 7), (4, 12, 6), (9, 3, 8, 7), (6, 6)])
def test_rectangular_products_and_bottlenecks(shapes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    factors = [rng.standard_normal((b, a)) for a, b in itertools.pairwise(shapes)]
    product = np.linalg.multi_dot(factors[::-1]) if len(factors) > 1 else factors[0]
    expected = np.linalg.svd(product, compute_uv=False)
    found = log_singular_values(factors)
    rank = min(shapes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.exp(found[:rank]), expected[:rank], rtol=1e-11)
    assert (found[rank:] == -np.inf).all()


def test_equal_values_and_zero_ones() -> None:
    factors, _ = planted(12, DEPTH, 0.999999)
    orthogonal = [0.1 * np.linalg.qr(factor)[0] for factor in factors]
    np.testing.assert_allclose(log_singular_values(orthogonal), DEPTH * np.log(0.1), atol=1e-10)
    dead = np.diag([1.0, 0.0, 1.0])
    rng = np.random.default_rng(0)
    found = log_singular_values([rng.standard_normal((3, 3)), dead, rng.standard_normal((3, 3))])
    assert found[-1] == -np.inf and np.isfinite(found[:2]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dense_up_to", [0, 128])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_both_methods_at_depth_200(dtype: torch.dtype, dense_up_to: int, scale: float) -> None:
    """e^(±921): neither float32 nor float64 can hold the product."""
    rng = np.random.default_rng(3)
    diagonals = rng.uniform(0.5, 1.0, (2, DEPTH, 8)) * scale
    maps = [DenseMap(torch.diag_embed(torch.tensor(d)).to(dtype)) for d in diagonals.transpose(1, 0, 2)]
    expected = np.log(diagonals).sum(1)
    found = log_extreme_singular_values(maps, dense_up_to=dense_up_to)
    np.testing.assert_allclose(found.largest, expected.max(1), atol=2e-5 if dtype == torch.float32 else 1e-9)
    assert found.largest_converged.all() or dtype == torch.float32
    assert found.method == ("lanczos" if dense_up_to == 0 else "dense")
    assert found.smallest is not None and found.smallest_converged is not None
    if dense_up_to or dtype == torch.float64:
        close = np.abs(found.smallest - expected.min(1)) <= 1e-4
        assert (close | ~found.smallest_converged).all()
    if dense_up_to:
        assert close.all()


def test_a_deep_sigmoid_net_does_not_underflow() -> None:
    torch.manual_seed(0)
    layers = [module for _ in range(75) for module in (nn.Linear(8, 8), nn.Sigmoid())]
    model, x = nn.Sequential(*layers).float(), torch.randn(1, 8)
    names = ["input", *(str(i) for i in range(1, 150, 2))]
    trace = Trace(Call.of(model, x, None, None, 0), names)
    factors = [between(trace, a, b) for a, b in itertools.pairwise(names)]
    assert float(between(trace, "input", "149").product(torch.ones(1, 8)).abs().max()) == 0.0
    expected = log_extreme_singular_values(factors).largest
    assert (expected < -110).all()
    found = log_extreme_singular_values(factors, dense_up_to=0)
    np.testing.assert_allclose(found.largest, expected, atol=1e-4)
    assert found.largest_converged.all()


def test_the_scaled_product_is_the_product() -> None:
    rng = torch.Generator().manual_seed(0)
    factors = [DenseMap(torch.randn(3, b, a, generator=rng).double()) for a, b in ((4, 6), (6, 5))]
    product = Product(factors)
    whole = factors[1].matrices @ factors[0].matrices
    v, u = torch.randn(3, 4, generator=rng).double(), torch.randn(3, 5, generator=rng).double()
    scale = torch.exp(torch.tensor(product.log_scale))[:, None]
    torch.testing.assert_close(product.product(v) * scale, (whole @ v[:, :, None])[:, :, 0])
    torch.testing.assert_close(product.transposed_product(u) * scale, (whole.mT @ u[:, :, None])[:, :, 0])


def test_no_vector_between_the_factors_leaves_float32() -> None:
    small, large = DenseMap(1e-30 * torch.eye(3)), DenseMap(1e30 * torch.eye(3))
    found = log_extreme_singular_values([small] * 4 + [large] * 4, dense_up_to=0)
    np.testing.assert_allclose(found.largest, 0, atol=1e-4)
    assert found.largest_converged.all()


def test_a_product_that_is_zero() -> None:
    factors = [DenseMap(torch.eye(3)), DenseMap(torch.zeros(3, 3)), DenseMap(torch.eye(3))]
    for dense_up_to in (0, 128):
        found = log_extreme_singular_values(factors, dense_up_to=dense_up_to)
        assert found.largest.tolist() == [-np.inf]


def test_one_more_factor_gives_the_product_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = [
        DenseMap(1e-9 * torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)) for _ in range(4)
    ]
    whole, grown = Product(factors), Product(factors[:1])
    before = grown.then(factors[1])
    grown = before.then(factors[2]).then(factors[3])
    v = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(grown.product(v), whole.product(v), rtol=1e-12, atol=0)
    np.testing.assert_allclose(grown.log_scale, whole.log_scale, rtol=1e-14)
    assert len(before.factors) == 2
    torch.testing.assert_close(before.product(v), Product(factors[:2]).product(v), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_singular_values([]), "at least one factor"),
        (lambda: log_singular_values([np.ones((2, 3)), np.ones((2, 3))]), "does not multiply"),
        (lambda: log_singular_values([np.full((2, 2), np.nan)]), "factor 0 has entries that are NaN"),
        (lambda: log_singular_values([np.ones((2, 0))]), r"factor 0 has shape \(2, 0\)"),
        (lambda: Product([]), "at least one factor"),
        (lambda: Product([DenseMap(torch.ones(2, 3))] * 2), "does not multiply"),
    ],
)
def test_bad_input_is_one_line(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=message):
        call()
