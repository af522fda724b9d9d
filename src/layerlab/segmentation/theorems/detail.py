"""The claims about what can cross a U-Net at all: exact statements, for any weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerlab.claims import Claim, Falsifier, Measurement, exact, rounding
from layerlab.segmentation.theorems.subjects import Skips, frozen
from layerlab.segmentation.unet import UNet

_CARRIES = ("concatenate", "add", "gate")


@dataclass(frozen=True)
class Seen:
    """A network and the side of its images."""

    widths: tuple[int, ...]
    skips: Skips
    side: int = 16
    norm: str = "batch"

    def network(self) -> UNet:
        """In float64 and evaluation mode."""
        return frozen(self.widths, self.skips, norm=self.norm)


def narrowest(net: UNet, side: int) -> int:
    """The least number of values that all of the output must come through: ``min over j <= k of width_j side_j^2``.

    k is the finest level whose skip carries something (the deepest one where none does). Every level down to k lies on
    every path; below k there are several, side by side.
    """
    carrying = [level for level, skip in enumerate(net.skips) if skip in _CARRIES]
    last = carrying[0] if carrying else len(net.widths) - 1
    sides = [-(-side // 2**level) for level in range(last + 1)]
    return min(width * length**2 for width, length in zip(net.widths, sides, strict=False))


def _deepest(net: UNet, side: int) -> int:
    """Broken: the deepest level's size, as if no skip carried anything."""
    length = -(-side // 2 ** (len(net.widths) - 1))
    return net.widths[-1] * length**2


def _rank(net: UNet, images: Tensor) -> int:
    jacobian = torch.func.jacfwd(lambda x: net(x[None])[0])(images)
    outputs = jacobian.shape[:3].numel()
    return int(torch.linalg.matrix_rank(jacobian.reshape(outputs, -1)))


def _measure_rank(
    seen: Seen, generator: np.random.Generator, *, crossing: Callable[[UNet, int], int] = narrowest
) -> Measurement:
    net = seen.network()
    bound = crossing(net, seen.side)
    image = torch.from_numpy(generator.standard_normal((net.channels, seen.side, seen.side)))
    if bound >= image.numel():
        return Measurement.unmet_because("the bound is no less than the number of the image's values")
    return Measurement(_rank(net, image), bound, exact("ranks, of singular values above rounding"))


BOTTLENECK = Claim(
    id="segmentation.bottleneck",
    title="Without skips the output has no more degrees of freedom than the deepest map has values",
    source="Solutions, question 4.2: “prevent a loss of information”, made exact",
    statement=(
        "rank ∂ logits/∂ image ≤ min over j ≤ k of channels_j · height_j · width_j; k the finest level whose skip"
        " carries something, the deepest level where none does"
    ),
    hypotheses=("the network in evaluation mode", "the bound is below the number of the image's values"),
    relation="<=",
    measure=_measure_rank,
    subjects={
        "off": lambda: Seen((4, 4, 4), "off"),
        "zero": lambda: Seen((4, 4, 4), "zero"),
        "level-1-alone": lambda: Seen((4, 2, 4), ("off", "concatenate")),
        "gate-at-level-1": lambda: Seen((4, 2, 4), ("zero", "gate")),
        "odd-side-no-norm": lambda: Seen((4, 4, 4), "off", side=13, norm="none"),
    },
    falsifiers={
        "finest-overlooked": Falsifier(
            "all skips on, and the bound of a network without",
            lambda: Seen((4, 4, 4), "concatenate"),
            replaces={"crossing": _deepest},
        ),
        "coarser-overlooked": Falsifier(
            "level 1 on, and the bound of a network without",
            lambda: Seen((4, 2, 4), ("off", "add")),
            replaces={"crossing": _deepest},
        ),
        "nothing-to-lose": Falsifier(
            "all skips on: no bound below the number of values",
            lambda: Seen((4, 4, 4), "concatenate"),
            expected="hypotheses unmet",
        ),
    },
)


def _from_below(net: UNet, control: UNet) -> None:
    """Give ``net``, without parameters for its skips, the weights of ``control``, whose skips have some."""
    _copy_half(net, control, last=True)


def _from_the_skips(net: UNet, control: UNet) -> None:
    """Broken: the weights that the control applies to its zeros."""
    _copy_half(net, control, last=False)


def _copy_half(net: UNet, control: UNet, *, last: bool) -> None:
    values = control.state_dict()
    for name, own in net.state_dict().items():
        given = values[name]
        if given.shape != own.shape:
            given = given[:, -own.shape[1] :] if last else given[:, : own.shape[1]]
        own.copy_(given)


def _measure_control(
    seen: Seen, generator: np.random.Generator, *, copy: Callable[[UNet, UNet], None] = _from_below
) -> Measurement:
    control = seen.network()
    off = frozen(seen.widths, "off", norm=seen.norm)
    images = torch.from_numpy(generator.standard_normal((2, control.channels, seen.side, seen.side)))
    with torch.no_grad():
        copy(off, control)
        expected, found = control(images), off(images)
    terms = 9 * 2 * max(seen.widths) * 4 * len(seen.widths)
    return Measurement(
        float((found - expected).abs().max()),
        0.0,
        rounding("float64", terms, scale=float(expected.abs().max()), condition=100.0),
    )


CONTROL = Claim(
    id="segmentation.zero-control",
    title="A U-Net whose skips carry zeros is a U-Net without skips",
    source="Beyond the document: the control with equal numbers of parameters",
    statement="with the weights that do not meet zeros copied: |logits(zero) − logits(off)| = 0",
    hypotheses=("the network in evaluation mode",),
    relation="==",
    extreme="least",
    measure=_measure_control,
    subjects={
        "two-levels": lambda: Seen((4, 8), "zero"),
        "three-levels-odd-side": lambda: Seen((4, 8, 8), "zero", side=13),
        "group-norm": lambda: Seen((4, 8, 8), "zero", norm="group"),
    },
    falsifiers={
        "concatenate": Falsifier("skips that carry the encoder's maps", lambda: Seen((4, 8), "concatenate")),
        "other-half": Falsifier(
            "the weights that meet zeros copied instead",
            lambda: Seen((4, 8), "zero"),
            replaces={"copy": _from_the_skips},
        ),
    },
)
