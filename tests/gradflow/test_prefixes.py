"""σ_max of every prefix of a chain against dense products: attained, found, and cheaply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.gradflow import prefixes
from layerlab.gradflow.linear_maps import DenseMap
from layerlab.gradflow.prefixes import Largest, largest_of_prefixes

SIZE = 160


def chain(matrices: list[Tensor], *, tolerance: float = 1e-2, budget: int = 40) -> list[Largest]:
    return list(
        largest_of_prefixes([DenseMap(m) for m in matrices], tolerance=tolerance, budget=budget, seed=0)
    )


def truth(matrices: list[Tensor]) -> list[np.ndarray]:
    found, product = [], None
    for matrix in matrices:
        product = matrix if product is None else matrix @ product
        found.append(torch.linalg.svdvals(product)[:, 0].log().numpy())
    return found


def random_chain(shapes: list[tuple[int, int]], samples: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(samples, *shape, generator=generator, dtype=torch.float64) / shape[1] ** 0.5
        for shape in shapes
    ]


@pytest.mark.parametrize("shapes", [[(SIZE, SIZE)] * 6, [(SIZE, 300), (40, SIZE), (200, 40), (1, 200)]])
def test_the_largest_are_those_of_the_dense_products(shapes: list[tuple[int, int]]) -> None:
    matrices = random_chain(shapes)
    for found, true in zip(chain(matrices, tolerance=1e-9, budget=400), truth(matrices), strict=True):
        assert (found.error <= 1e-9).all()
        np.testing.assert_allclose(found.log, true, rtol=0, atol=1e-12)


def test_what_is_found_is_attained_and_near_at_a_small_budget() -> None:
    matrices = random_chain([(SIZE, SIZE)] * 8)
    for found, true in zip(chain(matrices), truth(matrices), strict=True):
        assert (found.log <= true + 1e-12).all()
        assert (found.log >= true - 0.03).all()
        assert found.products <= 40


def test_a_direction_that_overtakes_without_touching_the_leading_one_is_found() -> None:
    # Two blocks: what grows first is an exact singular vector to the end, and the largest no more.
    growing, overtaking = torch.ones(SIZE, dtype=torch.float64), torch.ones(SIZE, dtype=torch.float64)
    growing[0], overtaking[1] = 2.0, 3.0
    matrices = [torch.diag(growing)[None]] * 6 + [torch.diag(overtaking)[None]] * 6
    for found, true in zip(chain(matrices), truth(matrices), strict=True):
        np.testing.assert_allclose(found.log, true, rtol=0, atol=1e-3)


def test_a_direction_that_is_cut_off_gives_way_to_the_next() -> None:
    generator = torch.Generator().manual_seed(2)
    left = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))[0]
    steep = (left * torch.linspace(1.0, 0.1, SIZE, dtype=torch.float64)) @ left.mT
    cut = torch.eye(SIZE, dtype=torch.float64) - left[:, :3] @ left[:, :3].mT
    matrices = [m[None] for m in (steep, steep, cut, steep)]
    for found, true in zip(chain(matrices, tolerance=1e-6, budget=200), truth(matrices), strict=True):
        np.testing.assert_allclose(found.log, true, rtol=0, atol=1e-9)


def test_a_long_chain_costs_little_more_than_a_look_back_from_each_product() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = [torch.randn(1, SIZE, SIZE, generator=generator, dtype=torch.float64) for _ in range(20)]
    spike = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    spike[0, 0] = 3.0
    found = chain([0.2 * m / SIZE**0.5 + spike for m in noise])
    assert sum(each.products for each in found[2:]) <= 3 * 18


def test_a_long_search_starts_anew_from_what_it_has() -> None:
    spectrum = torch.linspace(0.9, 1.0, 500, dtype=torch.float64)
    matrices = [torch.diag(spectrum)[None]]
    (found,) = chain(matrices, tolerance=1e-7, budget=4000)
    assert found.error[0] <= 1e-7
    assert found.products > 100
    np.testing.assert_allclose(found.log, 0.0, atol=1e-9)


def test_logarithms_go_on_where_float32_ends() -> None:
    shrinking = 1e-3 * torch.diag(torch.linspace(0.5, 1.0, SIZE))[None]
    found = chain([shrinking] * 40, tolerance=1e-3)
    assert found[-1].log[0] == pytest.approx(40 * np.log(1e-3), abs=1e-2)
    growing = 1e3 * torch.eye(SIZE)[None]
    assert chain([growing] * 40)[-1].log[0] == pytest.approx(40 * np.log(1e3), abs=1e-4)


def test_a_product_of_zero_stays_zero_and_leaves_other_samples_alone() -> None:
    one = torch.eye(SIZE, dtype=torch.float64)
    cut = torch.stack([torch.zeros_like(one), 0.5 * one])
    whole = torch.stack([one, 0.5 * one])
    found = chain([whole, cut, whole])
    assert [float(each.log[0]) for each in found] == pytest.approx([0.0, -np.inf, -np.inf])
    assert [float(each.log[1]) for each in found] == pytest.approx([i * np.log(0.5) for i in (1, 2, 3)])


def test_it_is_the_same_each_time() -> None:
    matrices = random_chain([(SIZE, SIZE)] * 4)
    first, second = chain(matrices), chain(matrices)
    assert all((a.log == b.log).all() for a, b in zip(first, second, strict=True))


def test_a_product_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        chain([torch.full((1, 3, 3), float("nan"))])


def test_the_budget_is_kept_and_so_is_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    add = prefixes._Basis.add

    def watched(self: prefixes._Basis, vectors: Tensor, images: Tensor) -> None:
        add(self, vectors, images)
        sizes.append(self.size)

    monkeypatch.setattr(prefixes._Basis, "add", watched)
    matrices = random_chain([(SIZE, SIZE)] * 6, samples=1)
    found = chain(matrices, tolerance=1e-12, budget=9)
    assert [each.products for each in found] == [9] * 6
    # What one search adds to is what the last one leaves: the best and the random ones.
    assert max(sizes) <= prefixes.KEPT + 2 + 5
    sizes.clear()
    chain(matrices[:1], tolerance=1e-12, budget=150)
    assert len(sizes) > 30
    assert max(sizes) <= 24
