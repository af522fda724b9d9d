"""What makes a U-Net fast beside its layout: a prepared copy for prediction, and memory that a training keeps."""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layerlab.segmentation.unet import Block, Decoder, UNet

# Of glibc's mallopt: from which size on memory is asked of the system and given back at once, and how much unused
# memory at the end of the heap is given back. 32 and 64 MB is what the defaults become when large tensors are freed.
_MMAP, _TRIM = -3, -1
_USUAL = ((_MMAP, 32 << 20), (_TRIM, 64 << 20))
_KEPT = ((_MMAP, 1 << 30), (_TRIM, (1 << 31) - 1))


class Prepared(nn.Module):
    """A copy of a U-Net that predicts only; see `prepared`."""

    def __init__(self, model: UNet) -> None:
        super().__init__()
        self.net = copy.deepcopy(model).eval().requires_grad_(False)
        for module in self.net.modules():
            if isinstance(module, Block):
                module.norm_0 = _folded(module.conv_0, module.norm_0)
                module.norm_1 = _folded(module.conv_1, module.norm_1)
                module.drop = nn.Identity()
            elif isinstance(module, Decoder) and module.skip == "zero":
                first = module.block.conv_0
                with torch.no_grad():
                    first.weight = nn.Parameter(
                        first.weight[:, first.in_channels // 2 :], requires_grad=False
                    )
                first.in_channels //= 2
                module.skip = "off"

    def forward(self, images: Tensor) -> Tensor:
        """Logits, as the network's own forward in evaluation, without a gradient."""
        # Not inference mode: its tensors could not be summed up in place outside of it, and the time is the same.
        with torch.no_grad():
            logits: Tensor = self.net(images)
        return logits

    def train(self, mode: bool = True) -> Prepared:
        """Stays in evaluation: there is nothing left to train."""
        return super().train(False)


def prepared(model: UNet) -> Prepared:
    r"""A copy of a U-Net for prediction: the same function as ``model.eval()``, up to rounding, in less time.

    A trained batch norm is part of the convolution before it, ``W' = s W`` and ``b' = s (b - mean) + shift`` with
    ``s = scale / sqrt(variance + eps)``; the dead weights of ``zero`` skips are left
    out; nothing is recorded for a gradient.

    Args:
        model: it is only read, and later changes of its weights do not reach the copy.

    Returns:
        A module ``(n, channels, h, w) -> (n, classes, h, w)`` on the model's device, of its type.

    >>> _ = torch.manual_seed(0)
    >>> net = UNet(3, 2, (4, 8))
    >>> images = torch.rand(2, 3, 16, 16)
    >>> _ = net(images)  # statistics of the batch norm
    >>> fast = prepared(net)
    >>> torch.allclose(fast(images), net.eval()(images), atol=1e-5)
    True
    """
    return Prepared(model)


def _folded(conv: nn.Conv2d, norm: nn.Module) -> nn.Module:
    """Put a trained batch norm into the convolution; returns what is left of the norm."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return norm
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    shift = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    return nn.Identity()


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Let this process keep the memory that it frees, for the block: a training frees the same tensors every step.

    Memory from the system is mapped page by page as it is first written; without this a seventh of a training step
    went there (70 MB of a batch of 4 at widths (16, 32, 64, 128), 128 x 128). After the block unused memory is given
    back. It is for glibc on Linux; elsewhere nothing happens. The setting is the process's, all threads have it.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for option, value in _KEPT:
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _USUAL:
            library.mallopt(option, value)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
