from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.lab import kernels
from layerlab.lab.kernels import threads
from layerlab.segmentation import UNet
from layerlab.segmentation.kernels import normalisation
from layerlab.segmentation.kernels.normalisation import activated, served


def drawn(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last)


def norm_of(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0, generator=generator)
        norm.bias.normal_(generator=generator)
    return norm


# One chunk of rows, just more, many; the last is far from zero beside its deviation.
CASES = [
    ((1, 8, 1, 3), 0.0, 1.0),
    ((2, 16, 16, 8), 1.0, 2.0),
    ((1, 24, 257, 1), -3.0, 0.5),
    ((3, 8, 40, 33), 5.0, 1.0),
    ((2, 8, 32, 32), 1e4, 1.0),
]
ACTIVATIONS = [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1, inplace=True)]


@pytest.mark.parametrize(("shape", "mean", "deviation"), CASES)
@pytest.mark.parametrize("act", ACTIVATIONS, ids=repr)
def test_outputs_gradients_and_statistics_are_those_of_float64(
    shape: tuple[int, int, int, int], mean: float, deviation: float, act: nn.ReLU | nn.LeakyReLU
) -> None:
    norm = norm_of(shape[1])
    twin = copy.deepcopy(norm).double()
    x = (deviation * drawn(*shape) + mean).requires_grad_()
    exactly = x.detach().double().requires_grad_()
    normal = twin(exactly)
    slack = 4e-6
    # Where a value is next to zero, float32 may see it on the other side: no gradient comes from there.
    g = torch.where(normal.detach().abs() > 20 * slack, drawn(*shape, seed=1), 0.0)
    g = g.contiguous(memory_format=torch.channels_last)
    assert served(x, norm)
    found = activated(x, norm, act)
    expected = act(normal)
    of_ours = torch.autograd.grad(found, [x, *norm.parameters()], g)
    of_twin = torch.autograd.grad(expected, [exactly, *twin.parameters()], g.double())
    statistics = [(norm.running_mean, twin.running_mean), (norm.running_var, twin.running_var)]
    for ours, exact in [(found, expected), *zip(of_ours, of_twin, strict=True), *statistics]:
        assert ours is not None and exact is not None
        scale = max(1.0, float(exact.detach().abs().max()))
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=slack * scale)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert norm.num_batches_tracked == 1


def test_it_is_more_precise_than_torch_in_channels_last() -> None:
    x = 3 * drawn(8, 16, 128, 128) + 5
    norm, act = norm_of(16), nn.ReLU()
    exact = act(copy.deepcopy(norm).double()(x.double()))
    twin = copy.deepcopy(norm)
    ours = float((activated(x, norm, act) - exact).detach().abs().max())
    with kernels.disabled():
        torchs = float((activated(x, twin, act) - exact).detach().abs().max())
    assert ours < 5e-6
    assert ours < torchs


def test_gradients_that_nobody_wants_are_not_made() -> None:
    x, norm = drawn(2, 8, 4, 4), norm_of(8)
    norm.bias.requires_grad_(False)
    activated(x, norm, nn.ReLU()).sum().backward()
    assert norm.weight.grad is not None and norm.bias.grad is None and x.grad is None


def test_gradients_of_gradients_are_torchs() -> None:
    x, norm = drawn(2, 8, 4, 4).requires_grad_(), norm_of(8)
    wanted = (x, norm.weight)

    def second() -> Any:
        out = activated(x, norm, nn.LeakyReLU(0.1))
        (first,) = torch.autograd.grad((out**3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), wanted)

    found = second()
    with kernels.disabled():
        expected = second()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, g = drawn(2, 16, 64, 65), drawn(2, 16, 64, 65, seed=1)

    def step() -> list[Tensor]:
        norm, leaf = norm_of(16), x.clone().requires_grad_()
        out = activated(leaf, norm, nn.ReLU())
        return [out, *torch.autograd.grad(out, [leaf, *norm.parameters()], g)]

    one = step()
    monkeypatch.setattr(
        threads, "even_parts", lambda count, work, multiple=1: [0, count // 3, count // 2, count]
    )
    assert all(torch.equal(a, b) for a, b in zip(step(), one, strict=True))


def test_not_a_number_is_passed_on() -> None:
    x = drawn(2, 8, 4, 4)
    x[0, 3, 1, 1] = torch.nan
    out = activated(x, norm_of(8), nn.ReLU()).isnan()
    assert out[:, 3].all() and not out[:, :3].any() and not out[:, 4:].any()


def test_what_is_shut_lets_no_infinity_through() -> None:
    x, norm = drawn(2, 8, 4, 4).requires_grad_(), norm_of(8)
    out = activated(x, norm, nn.ReLU())
    g = torch.where(out > 0, 1.0, torch.inf).contiguous(memory_format=torch.channels_last)
    assert all(bool(found.isfinite().all()) for found in torch.autograd.grad(out, [x, *norm.parameters()], g))


def test_who_is_served() -> None:
    x, norm = drawn(2, 8, 4, 5), norm_of(8)
    assert served(x, norm)
    assert not served(x.contiguous(), norm)
    assert not served(x.double(), norm.double())
    assert not served(drawn(2, 4, 4, 5), norm_of(4))
    assert not served(drawn(1, 8, 1, 1), norm_of(8))
    assert not served(x, norm_of(8).eval())
    assert not served(x, nn.BatchNorm2d(8, affine=False))
    assert not served(x, nn.BatchNorm2d(8, track_running_stats=False))
    assert not served(x, nn.BatchNorm2d(8, momentum=None))
    with kernels.disabled():
        assert not served(x, norm_of(8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not served(x, norm_of(8))


def test_who_listens_to_a_layer_hears_it() -> None:
    heard: list[nn.Module] = []
    norm, act = norm_of(8), nn.ReLU()
    for module in (norm, act):
        module.register_forward_hook(lambda module, given, out: heard.append(module))
    activated(drawn(2, 8, 4, 4), norm, act)
    assert heard == [norm, act]


def test_the_kernel_is_what_a_network_trains_with(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    real = normalisation._Activated.apply

    def watched(x: Tensor, *rest: Any) -> Tensor:
        calls.append(tuple(x.shape))
        out: Tensor = real(x, *rest)
        return out

    monkeypatch.setattr(normalisation._Activated, "apply", watched)
    torch.manual_seed(0)
    net = UNet(3, 2, (8, 16))
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    assert len(calls) == 6
    calls.clear()
    net.eval()(torch.rand(2, 3, 8, 8))
    assert not calls


class _Halved(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize("act", [nn.ELU(), nn.GELU(), nn.SiLU(), _Halved()], ids=repr)
def test_another_activation_in_the_place_of_relu_is_what_is_computed(act: nn.Module) -> None:
    x, norm = drawn(2, 8, 4, 4), norm_of(8)
    twin = copy.deepcopy(norm)
    assert torch.equal(activated(x, norm, act), act(twin(x)))


@pytest.mark.parametrize("missing", ["running_mean", "running_var", "num_batches_tracked"])
def test_a_norm_without_one_of_its_buffers_is_torchs(missing: str) -> None:
    x, norm = drawn(2, 8, 4, 4), norm_of(8)
    names = ("running_mean", "running_var") if missing.startswith("running") else (missing,)
    for name in names:
        setattr(norm, name, None)
    assert not served(x, norm)
    assert torch.equal(activated(x, norm, nn.ReLU()), torch.relu(copy.deepcopy(norm)(x)))


def test_batched_gradients_are_the_single_ones_side_by_side() -> None:
    x, norm = drawn(2, 8, 4, 4).requires_grad_(), norm_of(8)
    out = activated(x, norm, nn.LeakyReLU(0.1))
    wanted = [x, *norm.parameters()]
    directions = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(1))
    together = torch.autograd.grad(out, wanted, directions, is_grads_batched=True, retain_graph=True)
    for place, direction in enumerate(directions):
        alone = torch.autograd.grad(out, wanted, direction, retain_graph=True)
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[place], expected, rtol=1e-4, atol=1e-4)
