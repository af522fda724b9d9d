from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.lab import kernels
from layerlab.lab.kernels import threads
from layerlab.segmentation import UNet
from layerlab.segmentation.kernels import convolution
from layerlab.segmentation.kernels.convolution import CHUNKS, convolve, served, weight_gradient


def drawn(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last)


SHAPES = [
    (1, 2, 16, 1, 1),
    (2, 2, 16, 1, 5),
    (1, 4, 16, 5, 1),
    (3, 6, 32, 7, 4),
    (2, 16, 16, 9, 33),
    (1, 10, 48, 16, 16),
]


def exact(x: Tensor, g: Tensor) -> Tensor:
    """The definition, in float64: shifted images times the gradient."""
    ci, h, w = x.shape[1:]
    padded = functional.pad(x.double(), (1, 1, 1, 1))
    out = torch.zeros(g.shape[1], ci, 3, 3, dtype=torch.float64)
    for dy in range(3):
        for dx in range(3):
            out[:, :, dy, dx] = torch.einsum(
                "nohw,nihw->oi", g.double(), padded[:, :, dy : dy + h, dx : dx + w]
            )
    return out


@pytest.fixture(autouse=True)
def it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever processor the tests run on."""
    monkeypatch.setattr(convolution, "pays", lambda: True)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_its_definition(shape: tuple[int, int, int, int, int]) -> None:
    n, ci, co, h, w = shape
    x, g = drawn(n, ci, h, w), drawn(n, co, h, w, seed=1)
    bound = 3e-6 * (n * h * w) ** 0.5
    assert float((weight_gradient(x, g).double() - exact(x, g)).abs().max()) < bound


@pytest.mark.parametrize("bias", [False, True])
def test_all_gradients_are_torchs(bias: bool) -> None:
    x, w = drawn(2, 6, 8, 9).requires_grad_(), drawn(16, 6, 3, 3, seed=1).requires_grad_()
    given = (x, w, drawn(16, 1, 1, 1, seed=2).flatten().requires_grad_() if bias else None)
    g = drawn(2, 16, 8, 9, seed=3)
    found = torch.autograd.grad(convolve(*given), [t for t in given if t is not None], g)
    with kernels.disabled():
        expected = torch.autograd.grad(convolve(*given), [t for t in given if t is not None], g)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_the_kernel_is_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    real = convolution.weight_gradient

    def watched(x: Tensor, g: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return real(x, g)

    monkeypatch.setattr(convolution, "weight_gradient", watched)
    torch.manual_seed(0)
    net = UNet(3, 2, (16, 32))
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    # All 3 x 3 convolutions but the stem, whose three channels are odd.
    assert len(calls) == 5
    calls.clear()
    with kernels.disabled():
        net(torch.rand(2, 3, 8, 8)).sum().backward()
    net.double()(torch.rand(2, 3, 8, 8).double()).sum().backward()
    with torch.no_grad():
        net.float()(torch.rand(2, 3, 8, 8))
    assert not calls


def test_who_is_served() -> None:
    x, w = drawn(2, 6, 8, 9), drawn(16, 6, 3, 3)
    assert served(x, w)
    assert not served(x.contiguous(), w)
    assert not served(x.double(), w.double())
    assert not served(drawn(2, 3, 8, 9), drawn(16, 3, 3, 3))
    assert not served(x, drawn(8, 6, 3, 3))
    with kernels.disabled():
        assert not served(x, w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not served(x, w)


def test_a_processor_on_which_torch_is_as_fast_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "pays", lambda: False)
    x, w = drawn(2, 6, 8, 9).requires_grad_(), drawn(16, 6, 3, 3).requires_grad_()
    assert "Convolve" not in type(convolve(x, w, None).grad_fn).__name__
    monkeypatch.setattr(convolution, "pays", lambda: True)
    assert "Convolve" in type(convolve(x, w, None).grad_fn).__name__


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", True), ("DEFAULT", True), ("AVX512", False)])
def test_the_processor_decides(monkeypatch: pytest.MonkeyPatch, capability: str, expected: bool) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert convolution.pays.__wrapped__() is expected


def test_gradients_of_gradients_are_torchs() -> None:
    x, w = drawn(1, 2, 4, 5).requires_grad_(), drawn(16, 2, 3, 3, seed=1).requires_grad_()

    def second() -> Any:
        (first,) = torch.autograd.grad(convolve(x, w, None).square().sum(), w, create_graph=True)
        return torch.autograd.grad(first.square().sum(), (x, w))

    found = second()
    with kernels.disabled():
        expected = second()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # Enough pixels for all chunks.
    x, g = drawn(2, 16, 64, 65), drawn(2, 32, 64, 65, seed=1)
    one = weight_gradient(x, g)
    monkeypatch.setattr(threads, "even_parts", lambda count, work, multiple=1: [0, 3, 7, CHUNKS])
    assert torch.equal(weight_gradient(x, g), one)


def test_a_step_is_that_of_plain_torch() -> None:
    """A whole network's gradients, with the kernel and channels-last, against plain torch in plain layout."""
    x = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    found: list[list[Tensor]] = []
    for fast in (True, False):
        torch.manual_seed(0)
        net: nn.Module = UNet(3, 4, (16, 32, 32))
        if not fast:
            net.double()
        net(x if fast else x.double()).square().mean().backward()
        found.append([p.grad for p in net.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(net.parameters()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-5 * max(1.0, float(b.abs().max())))
