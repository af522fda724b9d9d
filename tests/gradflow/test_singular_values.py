"""Extreme singular values, leading ones and densities on matrices whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow.linear_maps import DenseMap, LinearMap, dense
from layerlab.gradflow.singular_values import (
    extreme_singular_values,
    leading_singular_values,
    singular_values,
    spectral_density,
)


def planted(values: Tensor, rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix with these singular values between random orthonormal vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(n, values.numel(), dtype=torch.float64, generator=generator))[0]
        for n in (rows, columns)
    )
    return (left * values) @ right.T


def batch(rows: int, columns: int) -> Tensor:
    size = min(rows, columns)
    return torch.stack(
        [planted(torch.linspace(low, high, size).double(), rows, columns) for low, high in ((1, 2), (0.5, 4))]
    )


@pytest.mark.parametrize(("rows", "columns"), [(150, 150), (40, 170), (170, 40), (150, 151)])
def test_lanczos_finds_both_ends_of_square_tall_and_wide_maps(rows: int, columns: int) -> None:
    matrices = batch(rows, columns)
    found = extreme_singular_values(DenseMap(matrices), method="lanczos", tolerance=1e-9, budget=1000)
    expected = torch.linalg.svdvals(matrices).numpy()
    assert found.converged and found.method == "lanczos" and found.smallest is not None
    np.testing.assert_allclose(found.largest.value, expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found.smallest.value, expected[:, -1], rtol=1e-9)
    assert found.products <= 2 * min(rows, columns) + 4


@pytest.mark.parametrize("steps", [6, 10, 20, 40])
def test_residuals_and_brackets_hold_before_convergence(steps: int) -> None:
    """For any budget: value ± residual holds a singular value, and each end lies between value and outer."""
    for seed in range(10):
        matrix = planted(torch.linspace(0, 1, 200).double() ** 2 + 0.01, 200, 200, seed)
        found = extreme_singular_values(
            DenseMap(matrix), method="lanczos", tolerance=1e-14, budget=2 * steps + 4, seed=seed
        )
        values = torch.linalg.svdvals(matrix).numpy()
        assert not found.converged and found.products <= 2 * steps + 4
        top, low = found.largest, found.smallest
        assert low is not None
        for end in (top, low):
            assert np.abs(values - end.value[0]).min() <= end.residual[0] * (1 + 1e-9)
        assert top.value[0] <= values[0] * (1 + 1e-12) and values[0] <= top.outer[0]
        assert low.outer[0] <= values[-1] <= low.value[0] * (1 + 1e-12)


def test_a_residual_is_measured_not_assumed() -> None:
    """A map whose transposed product is wrong is not taken for one whose is right."""

    class Wrong(DenseMap):
        def transposed_product(self, vectors: Tensor) -> Tensor:
            return super().transposed_product(vectors).roll(1, dims=1)

    found = extreme_singular_values(Wrong(batch(30, 30)), method="lanczos", tolerance=1e-6, budget=400)
    assert not found.largest.converged.any()


def test_a_hard_smallest_value_is_said_not_to_have_converged() -> None:
    values = torch.logspace(-9, 0, 400, dtype=torch.float64)
    found = extreme_singular_values(DenseMap(planted(values, 400, 400)), budget=100)
    assert found.largest.converged.all() and found.smallest is not None
    assert not found.smallest.converged.any() and not found.converged
    assert found.smallest.value[0] >= 1e-9
    assert found.smallest.residual[0] > 1e-6 * found.smallest.value[0]


def test_singular_maps_and_zero() -> None:
    matrix = planted(torch.linspace(0, 1, 60).double(), 60, 60)
    for method in ("dense", "lanczos"):
        found = extreme_singular_values(DenseMap(matrix), method=method, budget=200)
        assert found.smallest is not None
        assert found.smallest.value[0] <= 1e-14 and found.smallest.converged.all()
        none = extreme_singular_values(DenseMap(torch.zeros(2, 5, 5)), method=method, budget=200)
        assert none.largest.value.tolist() == [0, 0] and none.converged


def test_samples_whose_krylov_space_ends_early_stand_beside_others() -> None:
    """The identity needs one step, a matrix of rank two three; values and residuals stay those of each."""
    rank2 = planted(torch.tensor([3.0, 2.0]).double(), 40, 40)
    full = planted(torch.linspace(1, 5, 40).double(), 40, 40)
    found = extreme_singular_values(
        DenseMap(torch.stack([torch.eye(40).double() * 7, rank2, full])),
        method="lanczos",
        tolerance=1e-9,
        budget=200,
    )
    assert found.smallest is not None
    np.testing.assert_allclose(found.largest.value, [7, 3, 5], rtol=1e-10)
    np.testing.assert_allclose(found.smallest.value, [7, 0, 1], rtol=1e-8, atol=1e-12)
    assert found.converged
    np.testing.assert_array_equal(found.largest.outer[:2], found.largest.value[:2])


def test_float32_products_are_summed_in_float64() -> None:
    matrices = batch(150, 150)
    found = extreme_singular_values(DenseMap(matrices.float()), method="lanczos", budget=400)
    assert found.converged
    np.testing.assert_allclose(found.largest.value, [2, 4], rtol=1e-6)
    with_limits = extreme_singular_values(DenseMap(matrices.float()), method="dense", budget=400)
    assert with_limits.largest.residual[0] > 1e-7


def test_auto_forms_small_matrices_and_keeps_the_budget() -> None:
    assert extreme_singular_values(DenseMap(batch(20, 300))).method == "dense"
    assert extreme_singular_values(DenseMap(batch(20, 300))).products == 20
    found = extreme_singular_values(DenseMap(batch(20, 300)), budget=12)
    assert found.method == "lanczos" and found.products <= 12
    assert extreme_singular_values(DenseMap(batch(20, 30)), smallest=False).smallest is None


def test_the_seed_decides() -> None:
    maps = DenseMap(batch(150, 150))
    runs = [
        extreme_singular_values(maps, method="lanczos", budget=20, seed=seed).largest.value[0]
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(("rows", "columns"), [(60, 60), (20, 90), (90, 20)])
def test_leading_values_come_with_their_multiplicity(rows: int, columns: int) -> None:
    size = min(rows, columns)
    values = torch.cat([torch.tensor([3.0, 3.0, 3.0, 2.0]), torch.linspace(1, 0.1, size - 4)]).double()
    found = leading_singular_values(DenseMap(planted(values, rows, columns)), 4, tolerance=1e-9, budget=600)
    np.testing.assert_allclose(found.value[0], [3, 3, 3, 2], rtol=1e-10)
    assert found.converged.all() and (found.residual < 1e-8).all()
    short = leading_singular_values(DenseMap(planted(values, rows, columns)), 4, tolerance=1e-14, budget=16)
    assert not short.converged.all()


def test_all_values() -> None:
    matrices = batch(30, 50)
    np.testing.assert_allclose(
        singular_values(DenseMap(matrices)), torch.linalg.svdvals(matrices).numpy(), rtol=1e-12
    )
    torch.testing.assert_close(dense(DenseMap(matrices)), matrices)
    torch.testing.assert_close(dense(DenseMap(matrices.mT)), matrices.mT)


@pytest.mark.parametrize("shape", [(200, 200), (200, 300), (300, 200)])
def test_an_estimated_density_agrees_with_the_counted_one(shape: tuple[int, int]) -> None:
    matrices = torch.stack([planted(torch.linspace(low, 1, 200).double(), *shape) for low in (0.0, 0.5)])
    edges = np.linspace(0, 1, 5)
    found = spectral_density(DenseMap(matrices), steps=25, probes=10)
    mass, error = found.histogram(edges)
    exact, none = spectral_density(DenseMap(matrices), dense_up_to=200).histogram(edges)
    assert not found.exact and found.products == 10 * 50 and (none == 0).all()
    np.testing.assert_allclose(mass.sum(1), 1, atol=1e-9)
    assert (np.abs(mass - exact) <= 5 * error + 0.02).all() and error.max() < 0.05
    # The second moment is a trace, which Gauss' rule takes exactly for each probe: the probes' spread is left.
    second = (found.weights * found.nodes**2).sum(-1).mean(-1)
    expected = matrices.square().sum((1, 2)).numpy() / 200
    np.testing.assert_allclose(second, expected, rtol=0.1)


def test_a_density_of_samples_that_end_early() -> None:
    maps = torch.stack([torch.eye(200) * 2, torch.diag(torch.linspace(0.5, 1, 200))]).double()
    found = spectral_density(DenseMap(maps), steps=20, probes=4)
    mass, _ = found.histogram(np.array([0.0, 1.5, 2.5]))
    np.testing.assert_allclose(mass, [[0, 1], [1, 0]], atol=1e-9)


class _NotFinite(DenseMap):
    def product(self, vectors: Tensor) -> Tensor:
        return super().product(vectors) * float("nan")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: extreme_singular_values(m, tolerance=0.0), "expected a tolerance > 0"),
        (lambda m: extreme_singular_values(m, budget=0), "expected a budget of at least one"),
        (lambda m: extreme_singular_values(m, method="dense", budget=5), "takes min"),
        (lambda m: leading_singular_values(m, 0), "expected a count from 1 to"),
        (lambda m: leading_singular_values(m, 99), "expected a count from 1 to"),
        (lambda m: singular_values(m, budget=5), "all singular values take"),
        (lambda m: spectral_density(m, probes=1), "at least 2 probes"),
        (lambda m: extreme_singular_values(DenseMap(torch.ones(0, 3))), "got an empty one"),
        (lambda m: DenseMap(torch.ones(3)), "expected matrices of shape"),
        (lambda m: extreme_singular_values(_NotFinite(m.matrices.mT)), "is not finite"),
    ],
)
def test_bad_input_is_one_line(call: object, message: str) -> None:
    maps: LinearMap = DenseMap(batch(20, 30))
    assert callable(call)
    with pytest.raises(UserError, match=message):
        call(maps)
