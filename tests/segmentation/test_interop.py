from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.segmentation.interop import from_monai, to_monai
from layerlab.segmentation.unet import UNet

WIDTHS = (4, 4, 8, 16, 32)


def basic(**options: Any) -> nn.Module:
    # Imported here, as it takes seconds: only the tests that need it pay.
    nets = importlib.import_module("monai.networks.nets")
    torch.manual_seed(0)
    made: nn.Module = nets.BasicUNet(
        **{"spatial_dims": 2, "features": (*WIDTHS, 4), "in_channels": 3, **options}
    )
    # Away from the initial values of norms and biases, which would hide whether they are copied.
    with torch.no_grad():
        for value in made.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.copy_(0.5 + torch.rand(value.shape))
    return made.double()


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(net: nn.Module, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    x = x.clone().requires_grad_()
    net.zero_grad()
    out = net(x)
    (out * target).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad, {n: p.grad for n, p in net.named_parameters() if p.grad is not None}


def dropouts(net: nn.Module) -> list[nn.Dropout]:
    return [module for module in net.modules() if isinstance(module, nn.Dropout)]


def compare(ours: UNet, theirs: nn.Module, *, training: bool) -> None:
    from layerlab.segmentation.interop import _theirs

    x, target = images(2, 3, 32, 48), images(2, ours.classes, 32, 48) - 0.5
    ours.train(training), theirs.train(training)
    # Dropout draws in the order of memory, and theirs is not in channels-last everywhere: it is the same in law only.
    for dropout in (*dropouts(ours), *dropouts(theirs)):
        dropout.p = 0.0
    out, into, found = gradients(ours, x, target)
    expected_out, expected_into, expected = gradients(theirs, x, target)
    torch.testing.assert_close(out, expected_out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(into, expected_into, rtol=1e-9, atol=1e-9 * float(expected_into.abs().max()))
    assert len(found) == len(list(ours.parameters()))
    for name, grad in found.items():
        there = expected.pop(_theirs(name), None)
        if there is not None:  # an instance norm of theirs may have no weights
            scale = max(1.0, float(there.abs().max()))
            torch.testing.assert_close(grad, there, rtol=1e-9, atol=1e-9 * scale, msg=name)
    # What is left are biases before a norm, through which nothing flows in training.
    assert all(name.endswith("conv.bias") for name in expected)
    for value in expected.values() if training else ():
        assert float(value.abs().max()) < 1e-9


@pytest.mark.parametrize(
    "options",
    [
        {},  # leaky ReLU 0.1, instance norm, bias
        {"norm": "instance"},  # of MONAI: without weights
        {"norm": "batch", "bias": True},
        {"norm": "batch", "bias": False, "act": "relu", "dropout": 0.4},
        {"norm": ("group", {"num_groups": 8}), "features": (8, 8, 16, 32, 64, 8)},
        {"norm": ("group", {"num_groups": 8}), "features": (8, 8, 16, 32, 64, 8), "bias": False},
        {"norm": None, "act": "relu", "out_channels": 7},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_from_monai(options: dict[str, Any], training: bool) -> None:
    theirs = basic(**options)
    ours = from_monai(theirs.train(training))
    assert {each.p for each in dropouts(ours)} - {0.0} == {each.p for each in dropouts(theirs)} - {0.0}
    compare(ours, theirs, training=training)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_to_monai(norm: str, slope: float) -> None:
    torch.manual_seed(0)
    widths = (8, 8, 16, 32, 64) if norm == "group" else WIDTHS
    ours = UNet(3, 4, widths, norm=norm, slope=slope, dropout=0.2).double()
    ours(images(2, 3, 32, 32))  # statistics of its own
    theirs = to_monai(ours)
    assert {each.p for each in dropouts(theirs)} == {0.2}
    compare(ours, theirs, training=False)
    compare(ours, theirs, training=True)
    assert all(p.dtype == torch.float64 for p in theirs.parameters())


def test_there_and_back() -> None:
    torch.manual_seed(0)
    ours = UNet(1, 2, WIDTHS, norm="batch").eval()
    before = torch.get_rng_state()
    back = from_monai(to_monai(ours))
    assert torch.equal(torch.get_rng_state(), before)
    assert not back.training
    state = back.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    state["head.bias"].add_(1)
    assert not torch.equal(ours.head.bias, back.head.bias), "the copy shares its memory"


def test_odd_sizes_differ() -> None:
    """As the page says: MONAI leaves an odd row out, so the outputs agree on multiples of 16 alone."""
    theirs = basic(norm=None).eval()
    ours = from_monai(theirs)
    x = images(1, 3, 33, 48)
    assert ours(x).shape == theirs(x).shape
    assert not torch.allclose(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"spatial_dims": 3}, "two spatial dimensions"),
        ({"features": (32, 32, 64, 128, 256, 16)}, "expected features"),
        ({"features": (4, 8, 16, 32, 64, 4)}, "expected features"),
        ({"upsample": "nontrainable"}, "upsample='deconv'"),
        ({"act": "prelu"}, "ReLU or leaky ReLU"),
        ({"norm": ("batch", {"eps": 1e-3})}, "expected a norm"),
        ({"norm": ("batch", {"momentum": 0.2})}, "expected a norm"),
        ({"norm": ("instance", {"eps": 1e-3})}, "expected a norm"),
        ({"norm": ("group", {"num_groups": 2})}, "expected a norm"),
        ({"dropout": ("alphadropout", {"p": 0.2})}, "drops single values"),
    ],
)
def test_what_does_not_coincide_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        from_monai(basic(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (4, 8, 16, 32, 64)},
        {"widths": (4, 4, 8)},
        {"skips": "zero"},
        {"up": "bilinear"},
        {"norm": "group"},
    ],
)
def test_ours_may_have_no_counterpart(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="as a BasicUNet has"):
        to_monai(UNet(**{"widths": WIDTHS, **options}))


def test_needs_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match=r"pip install \"layerlab\[images\]\""):
        to_monai(UNet(widths=WIDTHS))


def test_other_networks_are_told() -> None:
    with pytest.raises(UserError, match="a BasicUNet of MONAI, got Linear"):
        from_monai(nn.Linear(1, 1))
