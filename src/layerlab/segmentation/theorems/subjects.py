"""Two kinds of masks that stand at the ends of the question, and small trainings on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlab.lab import optimizing
from layerlab.lab.training import one_thread, stream_seed
from layerlab.segmentation.losses import segmentation_loss
from layerlab.segmentation.metrics import confusion, iou, mean_known
from layerlab.segmentation.unet import UNet

Skips: TypeAlias = str | tuple[str, ...]
Draw: TypeAlias = Callable[[np.random.Generator, int, int], tuple[NDArray[np.float32], NDArray[np.uint8]]]
"""Of a generator, a number of images and their side: images ``(n, 1, side, side)`` and masks ``(n, side, side)``."""

STEPS, BATCH, HELD_OUT = 40, 16, 64
RATE = 0.02
SEEDS, FULL_SEEDS = 3, 10
SIDE = 16
WIDTHS = (8, 8, 8)
"""Three levels: at the deepest, one place stands for 4 x 4 pixels."""


def strokes(
    generator: np.random.Generator, count: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Four straight strokes a pixel wide, seen as 1 against 0 through normal noise of deviation 1/4."""
    masks = np.zeros((count, side, side), np.uint8)
    along = np.linspace(0, 1, 2 * side)
    row, column, to_row, to_column = np.moveaxis(generator.integers(0, side, (count, 4, 4, 1)), 2, 0)
    rows = np.rint(row + along * (to_row - row)).astype(int)
    columns = np.rint(column + along * (to_column - column)).astype(int)
    masks[np.arange(count)[:, None, None], rows, columns] = 1
    return _seen(generator, masks, 0.25), masks


def blocks(
    generator: np.random.Generator, count: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Blocks of 4 x 4 pixels, each wholly figure or ground, seen as 1 against 0 through noise of deviation 1/2."""
    places = generator.integers(0, 2, (count, side // 4, side // 4)).astype(np.uint8)
    masks = places.repeat(4, axis=1).repeat(4, axis=2)
    return _seen(generator, masks, 0.5), masks


def _seen(generator: np.random.Generator, masks: NDArray[np.uint8], noise: float) -> NDArray[np.float32]:
    images = masks + generator.normal(0.0, noise, masks.shape)
    return images[:, None].astype(np.float32)


@dataclass(frozen=True)
class Trial:
    """Two sets of skip connections, trained on the same images from the same initial values."""

    draw: Draw
    with_skips: Skips = "concatenate"
    without: Skips = "off"


def trained_iou(draw: Draw, skips: Skips, seed: int) -> float:
    """Mean IoU on held-out images after a short training: `STEPS` steps of Adam, every image seen once."""
    generator = np.random.default_rng(seed)
    images, masks = (torch.from_numpy(part) for part in draw(generator, STEPS * BATCH, SIDE))
    held_out, targets = draw(generator, HELD_OUT, SIDE)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(stream_seed(seed, 0))
        net = UNet(1, 2, WIDTHS, skips=skips)
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / STEPS)
            batch = slice(step * BATCH, (step + 1) * BATCH)
            optimizing.zero_grad(optimizer)
            segmentation_loss(net(images[batch]), masks[batch]).backward()
            optimizing.step(optimizer)
        net.eval()
        with torch.no_grad():
            found = net(torch.from_numpy(held_out)).argmax(1).numpy()
    matrix = sum(confusion(target, mask, 2) for target, mask in zip(targets, found, strict=True))
    return mean_known(iou(np.asarray(matrix)))


def stem_gradient(widths: Sequence[int], norm: str, skips: Skips, seed: int) -> float:
    """Length of the gradient at the stem's weight, before the first step, on eight images of strokes."""
    images, masks = (torch.from_numpy(part) for part in strokes(np.random.default_rng(seed), 8, 32))
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(stream_seed(seed, 1))
        net = UNet(1, 2, widths, skips=skips, norm=norm)
        loss = segmentation_loss(net(images), masks)
        (gradient,) = torch.autograd.grad(loss, [net.stem.weight])
    return float(gradient.norm())


def frozen(widths: Sequence[int], skips: Skips, *, channels: int = 2, norm: str = "batch") -> UNet:
    """A network in float64 and evaluation mode, its batch norms set to seeded values.

    Its activation leaks, so that few values are lost for other reasons than the network's shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(channels, 2, widths, skips=skips, norm=norm, slope=0.2).double().eval()
    generator = torch.Generator().manual_seed(1)

    def drawn(like: Tensor, low: float) -> Tensor:
        return low + torch.rand(like.shape, generator=generator, dtype=torch.float64)

    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None  # for the type checker
            module.running_mean.copy_(drawn(module.running_mean, -0.5))
            module.running_var.copy_(drawn(module.running_var, 0.5))
    return net
