"""3 x 3 convolutions that torch computes, but for the gradient of the weight in channels-last.

On a processor with AVX2 oneDNN computes that gradient at a third to a half of the rate of a matrix product, and
`convolution_cpu` at about the rate. With AVX-512 oneDNN reaches the rate itself (330 to 365 GFLOP/s of 364; ours 165 to
210), and is left to it. Ours serves plain float32 CPU tensors in channels-last with an even number of input channels
and a multiple of 16 outputs; everything else is torch's.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.lab import kernels
from layerlab.lab.kernels import threads
from layerlab.lab.kernels.registration import direct

CHUNKS = 16
"""Sums that are added in the end: fixed, so that bits do not depend on threads."""
# Nanoseconds a multiply-add on one core, which decides whether a second thread pays.
_NANOSECONDS = 0.03


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution with padding 1, whose weight's gradient takes the fast way where there is one."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``conv2d(x, weight, bias, padding=1)`` of ``(n, ci, h, w)`` and ``(co, ci, 3, 3)``."""
    if torch.is_grad_enabled() and weight.requires_grad and pays() and served(x, weight):
        out: Tensor = _Convolve.apply(x, weight, bias)
        return out
    return functional.conv2d(x, weight, bias, padding=1)


@cache
def pays() -> bool:
    """Whether this processor is of the kind on which the kernel is faster than torch."""
    return torch.backends.cpu.get_cpu_capability() != "AVX512"


def served(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes these tensors."""
    return (
        direct(x)
        and kernels.serve(x, weight)
        and x.dtype is torch.float32 is weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and weight.shape[1] % 2 == 0
        and weight.shape[0] % 16 == 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return functional.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], ctx.biased and ctx.needs_input_grad[2]]
        # Gradients of gradients are torch's, as is what arrives as another kind of tensor.
        ours = wanted[1] and not torch.is_grad_enabled() and direct(gradient)
        rest = [wanted[0], wanted[1] and not ours, wanted[2]]
        found: list[Tensor | None] = [None, None, None]
        if any(rest):
            sizes = [weight.shape[0]] if ctx.biased else None
            found = list(
                torch.ops.aten.convolution_backward(
                    gradient, x, weight, sizes, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, rest
                )
            )
        if ours:
            found[1] = weight_gradient(x.detach(), gradient)
        return tuple(value if want else None for value, want in zip(found, wanted, strict=True))


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """``(co, ci, 3, 3)``: of an input ``(n, ci, h, w)`` and the gradient ``(n, co, h, w)`` of the output.

    The sum over images and pixels p of ``x[:, p + d] gradient[:, p]`` for every shift d, zero outside the image.
    """
    n, ci, height, width = x.shape
    co = gradient.shape[1]
    # A sum of 16 chunks costs as much as the chunks where there are few pixels: 512 pixels each, at least.
    chunks = max(1, min(CHUNKS, n * height * width // 512))
    rows = [t.permute(0, 2, 3, 1).contiguous().view(n * height, -1).numpy() for t in (x, gradient)]
    padded, out = torch.zeros(chunks, (width + 2) * ci), torch.zeros(chunks, 9 * ci * co)
    arguments = (*rows, height, width, padded.numpy(), out.numpy())
    work = int(_NANOSECONDS * 9 * n * height * width * ci * co)
    threads.run(_cpu().weight_gradient, arguments, threads.even_parts(chunks, work))
    return out.sum(0).view(3, 3, ci, co).permute(3, 2, 0, 1)


@cache
def _cpu() -> ModuleType:
    # numba takes half a second to import, and kernels are compiled (once a machine) at their first call.
    from layerlab.segmentation.kernels import convolution_cpu

    return convolution_cpu
