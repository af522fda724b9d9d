from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation import UNet
from layerlab.segmentation.unet import NORMS, SKIPS, UPS


def built(seed: int = 0, **options: Any) -> UNet:
    torch.manual_seed(seed)
    return UNet(**{"channels": 3, "classes": 5, "widths": (4, 6, 8), **options})


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def written_out(net: UNet, x: Tensor) -> Tensor:
    """The network again, from its parameters alone, for sizes that divide; trained norms, no dropout."""
    p = dict(net.named_parameters()) | dict(net.named_buffers())

    def convolved(x: Tensor, block: str) -> Tensor:
        for i in (0, 1):
            x = functional.conv2d(
                x, p[f"{block}.conv_{i}.weight"], p.get(f"{block}.conv_{i}.bias"), padding=1
            )
            norm = f"{block}.norm_{i}"
            if net.norm != "none":
                scale, shift = p[f"{norm}.weight"][:, None, None], p[f"{norm}.bias"][:, None, None]
                n, c = x.shape[:2]
                if net.norm == "batch":
                    mean = p[f"{norm}.running_mean"][:, None, None]
                    variance = p[f"{norm}.running_var"][:, None, None]
                else:
                    groups = {"instance": c, "group": {4: 4, 6: 2, 8: 8}[c]}[net.norm]
                    parts = x.reshape(n, groups, -1)
                    mean, variance = (
                        v[..., None].expand(n, groups, c // groups).reshape(n, c, 1, 1)
                        for v in (parts.mean(2), parts.var(2, unbiased=False))
                    )
                x = (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift
            x = torch.where(x > 0, x, net.slope * x)
        return x

    kept = [convolved(x, "encoder.0")]
    for level in range(1, len(net.widths)):
        n, c, h, w = kept[-1].shape
        x = kept[-1].reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
        kept.append(convolved(x, f"encoder.{level}"))
    x = kept.pop()
    for level in reversed(range(len(net.widths) - 1)):
        d, e = f"decoder.{level}", kept.pop()
        weight, bias = p[f"{d}.up.weight"], p[f"{d}.up.bias"][:, None, None]
        n, c, h, w = x.shape
        if net.up == "transpose":
            u = torch.einsum("nchw,coij->nohiwj", x, weight).reshape(n, -1, 2 * h, 2 * w) + bias
        else:
            u = torch.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0]) + bias
            u = torch.nn.Upsample(scale_factor=2, mode=net.up)(u)
        skip = net.skips[level]
        if skip == "gate":
            g = f"{d}.gate"
            heard = torch.einsum("nchw,oc->nohw", e, p[f"{g}.kept.weight"][:, :, 0, 0])
            heard = heard + torch.einsum("nchw,oc->nohw", u, p[f"{g}.from_below.weight"][:, :, 0, 0])
            heard = (heard + p[f"{g}.from_below.bias"][:, None, None]).clamp(min=0)
            score = torch.einsum("nchw,oc->nohw", heard, p[f"{g}.score.weight"][:, :, 0, 0])
            e = e / (1 + torch.exp(-(score + p[f"{g}.score.bias"])))
        joined = {
            "concatenate": lambda e=e, u=u: torch.cat((e, u), 1),
            "gate": lambda e=e, u=u: torch.cat((e, u), 1),
            "zero": lambda e=e, u=u: torch.cat((0 * e, u), 1),
            "add": lambda e=e, u=u: e + u,
            "off": lambda e=e, u=u: u,
        }[skip]()
        x = convolved(joined, f"{d}.block")
    return torch.einsum("nchw,oc->nohw", x, p["head.weight"][:, :, 0, 0]) + p["head.bias"][:, None, None]


@pytest.mark.parametrize(
    "options",
    [
        *({"skips": skip} for skip in SKIPS),
        *({"norm": norm} for norm in NORMS),
        *({"up": up} for up in UPS),
        {"skips": ("gate", "off"), "slope": 0.1, "norm": "group", "up": "nearest"},
        {"skips": ("add", "zero"), "widths": (4, 6, 6)},
    ],
)
def test_is_what_its_page_says(options: dict[str, Any]) -> None:
    net = built(**options).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # every parameter and every statistic away from what would hide it
        for name, value in net.state_dict().items():
            if value.is_floating_point() and not name.endswith("weight"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    net.eval()
    x = images(2, 3, 16, 24).double()
    torch.testing.assert_close(net(x), written_out(net, x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (7, 8), (17, 31)])
@pytest.mark.parametrize("norm", NORMS)
def test_takes_any_size(skip: str, size: tuple[int, int], norm: str) -> None:
    for up in UPS:
        net = built(skips=skip, norm=norm, up=up)
        out = net.eval()(images(1, 3, *size))
        assert out.shape == (1, 5, *size)
        assert out.isfinite().all()
        trained = net.train()(images(2, 3, *size))
        trained.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_an_odd_border_is_a_repeated_one() -> None:
    """The maximum over what there is equals the maximum with the border's pixels repeated."""
    net = built(widths=(4, 6), norm="none").eval()
    seen: list[Tensor] = []
    net.encoder[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net.encoder[0].register_forward_hook(lambda module, args, out: seen.append(out))
    net(images(1, 3, 5, 7))
    first, below = seen
    padded = functional.pad(first, (0, 1, 0, 1), mode="replicate")
    assert torch.equal(below, padded.reshape(1, 4, 3, 2, 4, 2).amax((3, 5)))


def cut(
    kept: dict[int, Tensor], level: int, module: nn.Module, args: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """A hook: what the encoder kept, cut off from the encoder, so that its gradient is what crosses."""
    kept[level] = args[1].detach().requires_grad_()
    return args[0], kept[level]


def test_levels_are_switched_one_by_one() -> None:
    """What the encoder keeps at level k reaches the decoder's block there unless the skip is off or zero."""
    for skips in (("concatenate", "off", "zero"), ("off", "gate", "add"), ("zero", "concatenate", "off")):
        net = built(widths=(4, 6, 8, 8), skips=skips).eval()
        kept: dict[int, Tensor] = {}
        for level in range(len(skips)):
            net.decoder[level].register_forward_pre_hook(partial(cut, kept, level))
        net(images(1, 3, 16, 16)).square().sum().backward()
        for level, skip in enumerate(skips):
            grad = kept[level].grad
            crosses = grad is not None and bool(grad.abs().sum() > 0)
            assert crosses == (skip not in ("off", "zero")), (skips, level)


def test_zero_has_the_parameters_of_concatenate() -> None:
    on, zero = built(7), built(7, skips="zero")
    assert list(on.state_dict()) == list(zero.state_dict())
    for name, value in on.state_dict().items():
        assert torch.equal(value, zero.state_dict()[name]), name


@pytest.mark.parametrize("skips", [*SKIPS, ("off", "concatenate"), ("gate", "add")])
@pytest.mark.parametrize("others", [{}, {"norm": "group"}, {"up": "nearest"}, {"dropout": 0.3}])
def test_arms_of_one_seed_begin_equal(skips: str | tuple[str, ...], others: dict[str, Any]) -> None:
    reference = built(5, **others)
    after = torch.rand(1)
    arm = built(5, skips=skips, **others)
    assert torch.equal(torch.rand(1), after), "torch's generator has moved on differently"
    expected, found = reference.state_dict(), arm.state_dict()
    common = [name for name in found if name in expected and found[name].shape == expected[name].shape]
    assert {name for name in expected if name.startswith(("encoder", "head"))} <= set(common)
    assert all(
        f"decoder.{level}.{part}.weight" in common for level in (0, 1) for part in ("up", "block.conv_1")
    )
    for name in common:
        assert torch.equal(found[name], expected[name]), name
    other = built(6, skips=skips, **others).state_dict()
    assert not torch.equal(other["encoder.0.conv_0.weight"], found["encoder.0.conv_0.weight"])


def test_off_is_zero_without_the_dead_weights() -> None:
    zero, off = built(skips="zero").eval(), built(1, skips="off").eval()
    state = zero.state_dict()
    for level, width in enumerate(zero.widths[:-1]):
        name = f"decoder.{level}.block.conv_0.weight"
        state[name] = state[name][:, width:]
    off.load_state_dict(state)
    x = images(2, 3, 16, 16)
    torch.testing.assert_close(zero(x), off(x))


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_initial_values_are_those_of_he(slope: float) -> None:
    """Standard deviations that keep the mean square through an activation, or, without one, as it is."""
    net = built(3, widths=(32, 64), slope=slope)
    kept = (2 / (1 + slope**2)) ** 0.5
    for conv, expected in (
        (net.stem, kept / 27**0.5),
        (net.encoder[1].conv_1, kept / (64 * 9) ** 0.5),
        (net.decoder[0].up, 1 / 64**0.5),
        (net.head, 1 / 32**0.5),
    ):
        spread = 1 / (2 * conv.weight.numel()) ** 0.5  # relative, of a standard deviation of so many
        assert abs(float(conv.weight.detach().std()) / expected - 1) < 4 * spread
    assert not any(p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_dropout_is_for_training_only() -> None:
    net, x = built(dropout=0.5), images(2, 3, 16, 16)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_one_level_has_no_skip() -> None:
    net = built(widths=(4,))
    assert (net.skips, net.widths, len(net.decoder)) == ((), (4,), 0)
    assert net(images(2, 3, 3, 3)).shape == (2, 5, 3, 3)


def test_names_what_others_ask_for() -> None:
    net = built(skips=["add", "off"])
    assert net.skips == ("add", "off")
    assert net.widths == (4, 6, 8)
    assert net.stem is net.encoder[0].conv_0
    net(images(2, 3, 8, 8)).sum().backward()
    assert net.stem.weight.grad is not None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: UNet(widths=()), "one width or more"),
        (lambda: UNet(widths=(4, 0)), "one width or more"),
        (lambda: UNet(channels=0), "at least one channel"),
        (lambda: UNet(classes=0), "at least one class"),
        (lambda: UNet(skips="on"), "concatenate, add, gate, zero, off, got 'on'"),
        (lambda: UNet(widths=(4,), skips="on"), "got 'on'"),
        (lambda: UNet(skips=("add", "off")), "expected 3 skips for 4 widths"),
        (lambda: UNet(norm="layer"), "norm to be one of"),
        (lambda: UNet(up="deconv"), "up to be one of"),
        (lambda: UNet(dropout=1.0), "dropout"),
        (lambda: UNet(slope=-0.1), "slope"),
        (lambda: built()(images(1, 1, 8, 8)), r"(n, 3, height, width), got (1, 1, 8, 8)"),
        (lambda: built()(images(3, 8, 8)), "batch dimension"),
        (lambda: built()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), "images.float() / 255"),
        (lambda: built()(images(0, 3, 8, 8)), "at least one image"),
        (lambda: built().eval()(images(1, 3, 0, 8)), "at least one image"),
        (lambda: built()(images(1, 3, 4, 4)), "one image of 4 x 4 pixels with 3 levels"),
    ],
)
def test_bad_input_is_told(make: Callable[[], object], told: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert told in str(caught.value)


def test_one_pixel_trains_without_the_batch_norm() -> None:
    for norm in ("instance", "group", "none"):
        built(norm=norm)(images(1, 3, 1, 1)).sum().backward()
    built()(images(1, 3, 5, 4)).sum().backward()  # two values at the deepest level are enough
