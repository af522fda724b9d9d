"""MONAI's BasicUNet to and from ours, where the two are the same architecture (monai is imported only when used)."""

from __future__ import annotations

import importlib
from math import gcd
from typing import Any

import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.segmentation.unet import GROUPS, UNet

LEVELS = 5  # of a BasicUNet
_EPS, _MOMENTUM = 1e-5, 0.1


def from_monai(theirs: nn.Module) -> UNet:
    """Our network with the weights of a MONAI ``BasicUNet``: the same function with the same gradients.

    The architectures coincide where the BasicUNet has two spatial dimensions; ``features`` of the form
    ``(w, w, 2w, 4w, 8w, w)``, as its defaults have; ``upsample="deconv"``, its default; batch, instance, group or no
    norm; ReLU or leaky ReLU (its default is a slope of 0.1); any dropout. Ours then has five levels, skips
    ``concatenate`` and ``up="transpose"``. Its biases before a batch or an instance norm, which cannot change the
    output, have no counterpart: running means take them in. The outputs are equal for images whose sides are
    multiples of 16. Others it pads differently: its maximum leaves an odd last row out, and the row is repeated on
    the way back; ours uses every pixel.

    Reference: MONAI, ``monai.networks.nets.BasicUNet``, after T. Falk et al., U-Net - Deep Learning for Cell
    Counting, Detection, and Morphometry, Nature Methods 16 (2019).

    Args:
        theirs: a ``BasicUNet``; it is only read.

    Returns:
        A new network on the device, of the type and in the mode (training or not) of theirs.

    Raises:
        UserError: monai is not installed, the network is no ``BasicUNet``, or not one that coincides with ours.
    """
    if not isinstance(theirs, _basic_unet()):
        raise UserError(f"expected a BasicUNet of MONAI, got {type(theirs).__name__}")
    options = _options(theirs)
    with torch.random.fork_rng(devices=[]):
        ours = UNet(**options)
    values = theirs.state_dict()
    state = ours.state_dict()
    for name in state:
        there = _theirs(name)
        if there in values:  # an instance norm may have no weights, a group norm's convolution no bias
            state[name] = values[there]
        if name.endswith("running_mean"):
            state[name] = state[name] - values.get(there.replace("adn.N.running_mean", "conv.bias"), 0.0)
    like = values[_theirs("head.weight")]
    ours.to(like.device, like.dtype).load_state_dict(state)
    return ours.train(theirs.training)


def to_monai(ours: UNet) -> nn.Module:
    """A MONAI ``BasicUNet`` with the weights of our network, where the two coincide (see `from_monai`).

    Args:
        ours: with five widths ``(w, w, 2w, 4w, 8w)``, skips ``concatenate`` and ``up="transpose"``; it is only read.

    Returns:
        A new network on the device, of the type and in the mode (training or not) of ours.

    Raises:
        UserError: monai is not installed, or no ``BasicUNet`` is the same architecture.
    """
    made = _basic_unet()
    w = ours.widths[0]
    if ours.widths != _widths(w) or set(ours.skips) != {"concatenate"} or ours.up != "transpose":
        raise UserError(
            f"expected widths (w, w, 2w, 4w, 8w), skips 'concatenate' and up 'transpose', as a BasicUNet has, got "
            f"{ours.widths}, {ours.skips} and {ours.up!r}"
        )
    groups = {module.num_groups for module in ours.modules() if isinstance(module, nn.GroupNorm)}
    if ours.norm == "group" and len(groups) > 1:
        raise UserError(
            f"expected as many groups at every level, as a BasicUNet has, got {sorted(groups)}; use a width of 8 k"
        )
    norms: dict[str, Any] = {
        "batch": "batch",
        "instance": ("instance", {"affine": True}),
        "group": ("group", {"num_groups": max(groups, default=1)}),
        "none": None,
    }
    with torch.random.fork_rng(devices=[]):
        theirs: nn.Module = made(
            spatial_dims=2,
            in_channels=ours.channels,
            out_channels=ours.classes,
            features=(*ours.widths, w),
            act=("leakyrelu", {"negative_slope": ours.slope}) if ours.slope else "relu",
            norm=norms[ours.norm],
            bias=ours.stem.bias is not None,
            dropout=ours.dropout,
        )
    values = ours.state_dict()
    theirs.to(ours.stem.weight.device, ours.stem.weight.dtype)
    theirs.load_state_dict({_theirs(name): value for name, value in values.items()})
    return theirs.train(ours.training)


def _basic_unet() -> Any:
    try:
        return importlib.import_module("monai.networks.nets").BasicUNet
    except ImportError:
        raise UserError(
            'expected monai to be installed for its BasicUNet; pip install "layerlab[images]"'
        ) from None


def _widths(w: int) -> tuple[int, ...]:
    return (w, w, 2 * w, 4 * w, 8 * w)


def _theirs(name: str) -> str:
    """What a BasicUNet calls one of our parameters.

    >>> _theirs("encoder.0.conv_0.weight"), _theirs("encoder.2.norm_1.running_mean"), _theirs("head.bias")
    ('conv_0.conv_0.conv.weight', 'down_2.convs.conv_1.adn.N.running_mean', 'final_conv.bias')
    >>> _theirs("decoder.3.up.weight"), _theirs("decoder.0.block.conv_1.bias")
    ('upcat_4.upsample.deconv.weight', 'upcat_1.convs.conv_1.conv.bias')
    """
    part, *rest = name.split(".")
    if part == "head":
        return ".".join(("final_conv", *rest))
    level = int(rest.pop(0))
    if part == "encoder":
        block = f"down_{level}.convs" if level else "conv_0"
    else:
        block = f"upcat_{level + 1}.convs"
        if rest.pop(0) == "up":
            return f"upcat_{level + 1}.upsample.deconv.{rest[0]}"
    layer, what = rest
    kind, number = layer.split("_")
    return f"{block}.conv_{number}." + (f"conv.{what}" if kind == "conv" else f"adn.N.{what}")


def _options(theirs: Any) -> dict[str, Any]:
    """The arguments of ours that make it the architecture of a BasicUNet."""
    first = theirs.conv_0.conv_0
    if not isinstance(first.conv, nn.Conv2d):
        raise UserError(f"expected a BasicUNet of two spatial dimensions, got one of {first.conv}")
    w = first.conv.out_channels
    last = theirs.upcat_1.convs.conv_1.conv
    downs = [getattr(theirs, f"down_{level}").convs.conv_1.conv for level in range(1, LEVELS)]
    widths = (w, *(conv.out_channels for conv in downs))
    if widths != _widths(w) or last.out_channels != w:
        raise UserError(
            f"expected features (w, w, 2w, 4w, 8w, w), got {(*widths, last.out_channels)}; only then do the "
            "transposed convolutions have the widths of ours"
        )
    if not hasattr(theirs.upcat_1.upsample, "deconv"):
        raise UserError(
            "expected a BasicUNet with upsample='deconv'; ours interpolates without aligned corners"
        )
    normed = [block.adn for block in (first, theirs.down_1.convs.conv_0, theirs.down_4.convs.conv_0)]
    kinds = {_norm(getattr(adn, "N", None), width) for adn, width in zip(normed, (w, w, 8 * w), strict=True)}
    if len(kinds) > 1:
        raise UserError(
            f"expected one norm at every level, got {', '.join(sorted(kinds))}; use a width of 8 k"
        )
    act, drop = getattr(first.adn, "A", None), getattr(first.adn, "D", None)
    if not isinstance(act, nn.ReLU | nn.LeakyReLU):
        raise UserError(f"expected a BasicUNet with ReLU or leaky ReLU, got {act}")
    if drop is not None and not isinstance(drop, nn.Dropout):
        raise UserError(f"expected a BasicUNet that drops single values, got {drop}")
    return {
        "channels": first.conv.in_channels,
        "classes": theirs.final_conv.out_channels,
        "widths": widths,
        "norm": kinds.pop(),
        "dropout": 0.0 if drop is None else drop.p,
        "slope": act.negative_slope if isinstance(act, nn.LeakyReLU) else 0.0,
    }


def _norm(norm: nn.Module | None, width: int) -> str:
    """What ours calls a norm of MONAI's on so many channels."""
    groups = gcd(width, GROUPS)
    if norm is None:
        return "none"
    if isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats:
        if (norm.eps, norm.momentum) == (_EPS, _MOMENTUM):
            return "batch"
    elif isinstance(norm, nn.InstanceNorm2d) and not norm.track_running_stats and norm.eps == _EPS:
        return "instance"
    elif isinstance(norm, nn.GroupNorm) and norm.affine and norm.eps == _EPS and norm.num_groups == groups:
        return "group"
    raise UserError(
        f"expected a norm that ours has too (batch, instance, {GROUPS} groups, or as many as divide the width; "
        f"eps {_EPS:g}), got {norm}"
    )
