"""The fast transform against the matrix, its adjoint and its gradients, on both paths."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import hadamard as matrix

from layerlab.errors import UserError
from layerlab.lab import kernels
from layerlab.projection.hadamard import hadamard, padded_size, subsampled

SIZES = [1 << bits for bits in range(13)]


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_paths_are_the_matrix(size: int, dtype: torch.dtype) -> None:
    x = random(2, 3, size, dtype=dtype)
    expected = x.double() @ torch.tensor(matrix(size), dtype=torch.float64)
    tolerance = torch.finfo(dtype).eps * size * float(x.abs().max())
    before = x.clone()
    for found in (hadamard(x), _without_kernel(x)):
        assert found.dtype is dtype
        assert found.shape == x.shape
        assert float((found - expected).abs().max()) <= tolerance
    assert torch.equal(x, before)


def _without_kernel(x: torch.Tensor) -> torch.Tensor:
    with kernels.disabled():
        return hadamard(x)


def test_many_rows_on_several_threads_and_strided_ones() -> None:
    x = random(300, 2_048)
    assert torch.equal(hadamard(x)[::7], hadamard(x[::7].contiguous()))
    assert torch.equal(hadamard(x.T[:, :256]), hadamard(x.T[:, :256].contiguous()))


@pytest.mark.parametrize("size", [2, 64, 1_024])
def test_it_is_its_own_adjoint_and_inverse_up_to_its_size(size: int) -> None:
    x, y = random(4, size), random(5, 4, size)[3]
    assert float((hadamard(x) * y).sum()) == pytest.approx(float((x * hadamard(y)).sum()), rel=1e-12)
    assert torch.allclose(hadamard(hadamard(x)), size * x, rtol=1e-12)


@pytest.mark.parametrize("kernel", [True, False])
def test_gradients_of_first_and_second_order(kernel: bool) -> None:
    x = random(2, 16).requires_grad_()
    function = hadamard if kernel else _without_kernel
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(lambda v: function(v) ** 2, x)


def test_transforms_of_torch() -> None:
    x = random(3, 8)
    assert torch.allclose(torch.func.jvp(hadamard, (x,), (x,))[1], hadamard(x))
    compiled = torch.compile(hadamard, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), hadamard(x))
    assert hadamard(torch.empty(4, 8, device="meta")).shape == (4, 8)


def test_half_precision_and_empty_batches() -> None:
    x = random(2, 32, dtype=torch.bfloat16)
    assert hadamard(x).dtype is torch.bfloat16
    assert hadamard(torch.zeros(0, 8)).shape == (0, 8)


@pytest.mark.parametrize("size", [1, 5, 8, 100])
def test_the_subsampled_map_and_its_adjoint_are_the_matrix(size: int) -> None:
    padded = padded_size(size)
    generator = torch.Generator().manual_seed(1)
    signs = 2 * torch.randint(0, 2, (size,), generator=generator) - 1
    rows = torch.randperm(padded, generator=generator)[: max(1, padded // 3)]
    dense = torch.tensor(matrix(padded), dtype=torch.float64)[rows, :size] * signs / len(rows) ** 0.5
    x, y = random(4, size).requires_grad_(), random(4, len(rows))
    found = subsampled(x, signs.to(torch.int8), rows)
    assert torch.allclose(found, x @ dense.T, atol=1e-12)
    (back,) = torch.autograd.grad(found, x, y)
    assert torch.allclose(back, y @ dense, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(3), "length 1, 2, 4, 8"),
        (torch.zeros(2, 0), "length 1, 2, 4, 8"),
        (torch.zeros(4, dtype=torch.int64), "floating-point"),
        (torch.tensor(1.0), "floating-point"),
        ([1.0, 2.0], "floating-point"),
    ],
)
def test_refusals(given, words: str) -> None:
    with pytest.raises(UserError, match=words):
        hadamard(given)
