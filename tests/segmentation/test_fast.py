from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.segmentation import UNet, keeping_memory, prepared
from layerlab.segmentation import fast as module
from layerlab.segmentation.unet import NORMS, SKIPS, UPS


def trained(**options: Any) -> UNet:
    """Norms and statistics away from their initial values, which would hide a wrong fold."""
    torch.manual_seed(0)
    net = UNet(**{"channels": 3, "classes": 5, "widths": (4, 6, 8), **options})
    for name, value in net.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_((0.5 + torch.rand(value.shape)) * (-1 if name.endswith("norm_1.weight") else 1))
    return net


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options",
    [
        *({"skips": skip} for skip in SKIPS),
        *({"norm": norm, "dropout": 0.5} for norm in NORMS),
        *({"up": up, "slope": 0.1} for up in UPS),
        {"skips": ("zero", "concatenate")},
    ],
)
def test_predicts_what_the_network_does(options: dict[str, Any]) -> None:
    net = trained(**options)
    fast = prepared(net)
    for size in ((16, 24), (13, 7), (1, 1)):
        x = images(2, 3, *size)
        expected = net.eval()(x).detach()
        bound = 2e-6 * float(expected.abs().max()) * 8
        assert float((fast(x) - expected).abs().max()) <= bound
    # In float64 nothing but the order of a few operations is left of the difference.
    exact = prepared(net.double())
    x = images(1, 3, 16, 16).double()
    torch.testing.assert_close(exact(x), net(x).detach(), rtol=1e-11, atol=1e-11)


def test_leaves_the_network_as_it_was() -> None:
    net = trained(skips="zero", dropout=0.2).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = images(2, 3, 16, 16)
    fast = prepared(net)
    out = fast(x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training and net.skips == ("zero", "zero") and all(p.requires_grad for p in net.parameters())
    assert torch.equal(x, images(2, 3, 16, 16)), "the images were overwritten"
    net(x)
    with torch.no_grad():
        net.head.bias.add_(1)
    assert torch.equal(fast(x), out)


def test_is_for_prediction_only() -> None:
    fast = prepared(trained(dropout=0.5))
    x = images(2, 3, 16, 16)
    assert not fast(x).requires_grad
    fast.train()
    assert torch.equal(fast(x), fast(x))
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout) for m in fast.modules())
    with pytest.raises(UserError, match="expected images of shape"):
        fast(images(1, 1, 8, 8))


def test_dead_weights_are_left_out() -> None:
    on, zero = prepared(trained()), prepared(trained(skips="zero"))
    count = [sum(p.numel() for p in net.parameters()) for net in (on, zero)]
    assert count[0] - count[1] == 9 * (4 * 4 + 6 * 6)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_memory_is_kept_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            told.append((option, value))
            return 1

        def malloc_trim(self, pad: int) -> int:
            told.append((pad,))
            return 1

    monkeypatch.setattr(module, "_glibc", Library)

    def interrupted() -> None:
        with keeping_memory():
            assert told == [(-3, 1 << 30), (-1, (1 << 31) - 1)]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told[2:] == [(-3, 32 << 20), (-1, 64 << 20), (0,)]


def test_memory_elsewhere_is_the_systems_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with keeping_memory():
        assert float(torch.ones(3).sum()) == 3
