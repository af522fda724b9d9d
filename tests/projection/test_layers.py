"""The module: moves, is saved, and passes gradients on."""

from __future__ import annotations

import pytest
import torch

from layerlab.errors import UserError
from layerlab.projection.layers import JLProjection

MAPS = [("gaussian", 1 / 3), ("rademacher", 1 / 3), ("sparse", 1 / 3), ("sparse", 0.02), ("hadamard", 1 / 3)]


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def layer(kind: str, density: float, seed: int = 0) -> JLProjection:
    return JLProjection(60, 12, kind, density=density, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "density"), MAPS)
def test_it_is_linear_over_any_batch(kind: str, density: float) -> None:
    made, x = layer(kind, density), rows(2, 3, 60)
    found = made(x)
    assert found.shape == (2, 3, 12)
    matrix = made(torch.eye(60, dtype=torch.float64)).T
    assert torch.allclose(found, x @ matrix.T, atol=1e-12)
    assert made(x[0, 0]).shape == (12,)
    assert not list(made.parameters())


@pytest.mark.parametrize(("kind", "density"), MAPS)
def test_gradients_flow_to_the_input(kind: str, density: float) -> None:
    made, x = layer(kind, density), rows(2, 60).requires_grad_()
    assert torch.autograd.gradcheck(made, x)
    matrix = made(torch.eye(60, dtype=torch.float64)).T
    gradient = rows(2, 12)
    (found,) = torch.autograd.grad(made(x), x, gradient)
    assert torch.allclose(found, gradient @ matrix, atol=1e-12)


@pytest.mark.parametrize(("kind", "density"), MAPS)
def test_it_moves_and_is_saved(kind: str, density: float) -> None:
    made, x = layer(kind, density), rows(4, 60)
    single = JLProjection(60, 12, kind, density=density)
    assert single(x.float()).dtype is torch.float32
    assert torch.allclose(single(x.float()).double(), made(x), atol=1e-5)
    assert torch.allclose(made.float()(x.float()), single(x.float()))
    assert {buffer.device.type for buffer in made.to("meta").buffers()} == {"meta"}
    if kind != "sparse" or density > 0.1:
        other = layer(kind, density, seed=1)
        assert not torch.equal(other(x), layer(kind, density)(x))
        other.load_state_dict(layer(kind, density).state_dict())
        assert torch.equal(other(x), layer(kind, density)(x))


def test_the_global_random_state_is_left_alone_and_the_line_says_what_it_is() -> None:
    before = torch.random.get_rng_state()
    made = layer("gaussian", 1 / 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert str(made) == "JLProjection(60 to 12, gaussian)"


@pytest.mark.parametrize("shape", [(59,), (60, 2), ()])
def test_another_width_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="expected a tensor"):
        layer("gaussian", 1 / 3)(rows(*shape))


@pytest.mark.parametrize(("kind", "density"), [("gaussian", 1 / 3), ("sparse", 0.02)])
def test_what_is_no_tensor_or_of_another_dtype_is_refused(kind: str, density: float) -> None:
    made = layer(kind, density)
    with pytest.raises(UserError, match=r"expected a tensor .* to project, got list"):
        made([1.0] * 60)  # type: ignore[arg-type]
    for dtype in (torch.float32, torch.int64):
        with pytest.raises(UserError, match=rf"expected torch\.float64, as the module is, got {dtype}"):
            made(rows(2, 60).to(dtype))


def test_under_autocast_the_dtypes_may_differ() -> None:
    made = layer("gaussian", 1 / 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert made(rows(2, 60).bfloat16()).shape == (2, 12)
