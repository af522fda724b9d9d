"""U-Net: an encoder, a decoder, and one connection a level that can be switched.

Every value of a parameter is drawn from a generator of its own, whose seed is the network's (one draw from torch's
global generator) and the parameter's name. So networks built from one seed agree in every parameter that they share in
name and shape, whatever their skip connections are, and torch's generator stands at the same place after each: arms
of a race begin equal and see equal batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.lab.kernels.registration import direct
from layerlab.segmentation.kernels.convolution import Convolution
from layerlab.segmentation.kernels.normalisation import activated

SKIPS = ("concatenate", "add", "gate", "zero", "off")
NORMS = ("batch", "instance", "group", "none")
UPS = ("transpose", "bilinear", "nearest")
GROUPS = 8
"""Of the group norm, or what divides a level's width and this."""


class UNet(nn.Module):
    r"""A U-Net for images of any size.

    Level ``k`` of the encoder is two 3 x 3 convolutions, each with norm and (leaky) ReLU; a maximum over 2 x 2 pixels
    leads to level ``k + 1``. On the way back the map of level ``k + 1`` is doubled in size, meets what the encoder had
    at level ``k``, and goes through two more convolutions. Level 0 is the finest; ``len(widths)`` levels have
    ``len(widths) - 1`` skips, as nothing comes up to the deepest. With ``u`` the doubled map and ``e`` the encoder's:

    - ``concatenate``: both, ``[e, u]`` (Ronneberger, Fischer and Brox 2015);
    - ``add``: ``e + u`` (as in LinkNet; Chaurasia and Culurciello 2017);
    - ``gate``: ``[a e, u]`` with ``a = sigmoid(psi relu(W_e e + W_u u + b) + c)``, one number a pixel: the attention
      gate of Oktay et al. (2018), here on the grid of ``e``;
    - ``zero``: ``[0 e, u]``: the parameters of ``concatenate``, but nothing crosses;
    - ``off``: ``u`` alone, and no parameters for ``e``.

    Sizes need not be even: the maximum at a border is over the pixels that there are, and the doubled map is cropped to
    the encoder's. Maps are as large as the image, rounded up, at every level, so one pixel is enough.

    References:
        O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI
        2015. O. Oktay et al., Attention U-Net: Learning Where to Look for the Pancreas, MIDL 2018. Initial values: K.
        He et al., Delving Deep into Rectifiers, ICCV 2015.

    Args:
        channels: of the images.
        classes: one map of logits each.
        widths: channels of each level, the finest first.
        skips: one name for all levels, or one a level, the finest first.
        norm: ``batch``, ``instance`` (every map for itself), ``group`` (up to 8 groups) or ``none``.
        up: doubles the size: ``transpose`` (a 2 x 2 transposed convolution), or ``bilinear`` or ``nearest``
            interpolation after a 1 x 1 convolution.
        dropout: share of the values after every activation that training sets to zero.
        slope: of the activation below zero; 0 is ReLU.

    Attributes:
        widths: as given.
        skips: one name a level, the finest first.
        stem: the first convolution, of which the weight's gradient is that of "the first encoder layer".

    Raises:
        UserError: a width, a number of channels or classes below 1, an unknown name, another number of skips than
            ``len(widths) - 1``, a dropout outside [0, 1), a negative slope.

    >>> _ = torch.manual_seed(0)
    >>> net = UNet(3, 11, (4, 8, 16), skips=("concatenate", "off"))
    >>> net(torch.rand(2, 3, 37, 50)).shape
    torch.Size([2, 11, 37, 50])
    >>> net.skips, net.stem.weight.shape
    (('concatenate', 'off'), torch.Size([4, 3, 3, 3]))
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128),
        *,
        skips: str | Sequence[str] = "concatenate",
        norm: str = "batch",
        up: str = "transpose",
        dropout: float = 0.0,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels, self.classes, self.widths = channels, classes, tuple(widths)
        self.norm, self.up, self.dropout, self.slope = norm, up, dropout, slope
        _check(channels, classes, self.widths, norm, up, dropout, slope)
        self.skips = _one_a_level(skips, len(self.widths))
        seed = int(torch.randint(1 << 62, (), device="cpu"))
        with torch.random.fork_rng(devices=[]):
            inputs = (channels, *self.widths[:-1])
            self.encoder = nn.ModuleList(
                Block(before, width, norm, dropout, slope)
                for before, width in zip(inputs, self.widths, strict=True)
            )
            self.decoder = nn.ModuleList(
                Decoder(below, width, skip, norm, up, dropout, slope)
                for below, width, skip in zip(self.widths[1:], self.widths[:-1], self.skips, strict=True)
            )
            self.head = nn.Conv2d(self.widths[0], classes, 1)
        _initialise(self, seed, slope)

    @property
    def stem(self) -> nn.Conv2d:
        """The first convolution."""
        first = self.encoder[0]
        assert isinstance(first, Block)  # for the type checker: a ModuleList forgets what it holds
        return first.conv_0

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes, height, width)`` of floating-point images ``(n, channels, height, width)``.

        Raises:
            UserError: images of another form, without a pixel, or, in training with the batch norm, one pixel in all
                at the deepest level, of which no variance can be taken.
        """
        self._check_images(images)
        # Convolutions, norms and maxima keep the layout that they are given, and this one is faster.
        x = images.contiguous(memory_format=torch.channels_last) if direct(images) else images
        kept: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            if level:
                kept.append(x)
                x = functional.max_pool2d(x, 2, ceil_mode=True)
            x = block(x)
        for decoder in reversed(self.decoder):
            x = decoder(x, kept.pop())
        logits: Tensor = self.head(x)
        return logits

    def _check_images(self, images: Tensor) -> None:
        form = f"(n, {self.channels}, height, width)"
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise UserError(
                f"expected images of shape {form}, got {tuple(images.shape)}; "
                "give every image the network's channels and put a batch dimension in front"
            )
        if not images.is_floating_point():
            raise UserError(
                f"expected floating-point images, got {images.dtype}; convert them: images.float() / 255"
            )
        n, _, height, width = images.shape
        if not images.numel():
            raise UserError(
                f"expected at least one image of at least one pixel, got shape {tuple(images.shape)}"
            )
        if self.training and self.norm == "batch":
            scale = 1 << (len(self.widths) - 1)
            if n * -(-height // scale) * -(-width // scale) == 1:
                raise UserError(
                    f"expected more than one value a channel at the deepest level to train the batch norm, got one "
                    f"image of {height} x {width} pixels with {len(self.widths)} levels; "
                    "use more or larger images, fewer widths or norm='group'"
                )


class Block(nn.Module):
    """Two 3 x 3 convolutions, each with norm, activation and dropout."""

    def __init__(self, inputs: int, width: int, norm: str, dropout: float, slope: float) -> None:
        super().__init__()
        # A bias before a norm that subtracts the mean of every channel would do nothing.
        bias = norm in ("group", "none")
        self.conv_0 = Convolution(inputs, width, bias=bias)
        self.norm_0 = _norm(norm, width)
        self.conv_1 = Convolution(width, width, bias=bias)
        self.norm_1 = _norm(norm, width)
        # In place: a norm's derivative needs its input, and a convolution's, too.
        self.act = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(activated(self.conv_0(x), self.norm_0, self.act))
        out: Tensor = self.drop(activated(self.conv_1(x), self.norm_1, self.act))
        return out


class Decoder(nn.Module):
    """Doubles a map in size, lets it meet the encoder's, and a block."""

    def __init__(
        self, below: int, width: int, skip: str, norm: str, up: str, dropout: float, slope: float
    ) -> None:
        super().__init__()
        self.skip, self.mode = skip, up
        self.up: nn.Module
        if up == "transpose":
            self.up = nn.ConvTranspose2d(below, width, 2, stride=2)
        else:
            self.up = nn.Conv2d(below, width, 1)
        self.gate = Gate(width) if skip == "gate" else None
        both = skip in ("concatenate", "gate", "zero")
        self.block = Block(2 * width if both else width, width, norm, dropout, slope)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        x = self.up(x)
        if self.mode != "transpose":
            x = functional.interpolate(x, scale_factor=2, mode=self.mode)
        if x.shape[2:] != kept.shape[2:]:
            x = x[:, :, : kept.shape[2], : kept.shape[3]]
        if self.skip == "add":
            x = x + kept
        elif self.skip != "off":
            if self.gate is not None:
                kept = self.gate(kept, x)
            elif self.skip == "zero":
                kept = torch.zeros_like(kept)
            x = torch.cat((kept, x), 1)
        result: Tensor = self.block(x)
        return result


class Gate(nn.Module):
    """The additive attention gate of Oktay et al. (2018): weighs every pixel of a map by what another one says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 2)
        self.kept = nn.Conv2d(width, inner, 1, bias=False)
        self.from_below = nn.Conv2d(width, inner, 1)
        self.score = nn.Conv2d(inner, 1, 1)

    def forward(self, kept: Tensor, from_below: Tensor) -> Tensor:
        heard = torch.relu(self.kept(kept) + self.from_below(from_below))
        return torch.sigmoid(self.score(heard)) * kept


class _GroupNorm(nn.GroupNorm):
    """Without torch's refusal of a single value, whose normalised value is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _norm(name: str, width: int) -> nn.Module:
    if name == "batch":
        return nn.BatchNorm2d(width)
    if name == "none":
        return nn.Identity()
    # As many groups as channels are the instance norm, which torch computes in channels-last only in this form.
    return _GroupNorm(width if name == "instance" else gcd(width, GROUPS), width)


def _initialise(net: nn.Module, seed: int, slope: float) -> None:
    """Weights from normal distributions that keep the variance of what passes; biases zero, norms the identity."""
    for name, module in net.named_modules():
        # On the meta device a network is only measured: nothing is drawn.
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d) or module.weight.is_meta:
            continue
        # A transposed convolution without overlap makes every pixel from one pixel of every input.
        fan = module.in_channels if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
        activated = name.endswith(("conv_0", "conv_1"))
        gain = (2 / (1 + slope**2)) ** 0.5 if activated else 1.0
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        drawn = torch.randn(module.weight.shape, generator=generator, device="cpu", dtype=torch.float32)
        with torch.no_grad():
            module.weight.copy_(drawn * (gain / fan**0.5))
            if module.bias is not None:
                module.bias.zero_()


def _check(
    channels: int, classes: int, widths: tuple[int, ...], norm: str, up: str, dropout: float, slope: float
) -> None:
    for what, value in (("channel", channels), ("class", classes)):
        if value < 1:
            raise UserError(f"expected at least one {what}, got {value}")
    if not widths or min(widths) < 1:
        raise UserError(
            f"expected one width or more, each at least 1, got {list(widths)}; try (16, 32, 64, 128)"
        )
    for what, name, known in (("norm", norm, NORMS), ("up", up, UPS)):
        if name not in known:
            raise UserError(f"expected {what} to be one of {', '.join(known)}, got {name!r}")
    if not 0 <= dropout < 1:
        raise UserError(f"expected a dropout of at least 0 and below 1, got {dropout}")
    if not slope >= 0:
        raise UserError(f"expected a slope of at least 0, got {slope}")


def _one_a_level(skips: str | Sequence[str], levels: int) -> tuple[str, ...]:
    named = (skips,) * (levels - 1) if isinstance(skips, str) else tuple(skips)
    for name in (skips,) if isinstance(skips, str) else named:
        if name not in SKIPS:
            raise UserError(f"expected every skip to be one of {', '.join(SKIPS)}, got {name!r}")
    if len(named) != levels - 1:
        raise UserError(
            f"expected {levels - 1} skips for {levels} widths, one a level, got {len(named)}; "
            "name one for all levels or one for each but the deepest"
        )
    return named
