"""Batch norm and (leaky) ReLU in training, together: what torch does in two operations and 13 passes, in 8.

It serves plain float32 CPU tensors in channels-last with a multiple of 8 channels, and torch's own `BatchNorm2d`,
`ReLU` and `LeakyReLU` to whose calls nobody listens; everything else is torch's.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.lab import kernels
from layerlab.lab.kernels import threads
from layerlab.lab.kernels.listeners import heard
from layerlab.lab.kernels.registration import direct

# Nanoseconds a number on one core, which decides whether a second thread pays.
_NANOSECONDS = 0.3


def activated(x: Tensor, norm: nn.Module, act: nn.Module) -> Tensor:
    """``act(norm(x))`` of maps ``(n, channels, h, w)``, with the running statistics that it leaves."""
    # Their very types: a subclass, or what somebody put in the place of one, computes something else.
    known = type(act) in (nn.ReLU, nn.LeakyReLU)
    if not (known and type(norm) is nn.BatchNorm2d and served(x, norm) and not heard(norm, act)):
        out: Tensor = act(norm(x))
        return out
    assert norm.num_batches_tracked is not None  # for the type checker: `served` has looked
    norm.num_batches_tracked.add_(1)
    slope = act.negative_slope if isinstance(act, nn.LeakyReLU) else 0.0
    fast: Tensor = _Activated.apply(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps, slope
    )
    return fast


def served(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether the kernel takes these maps for this norm."""
    return (
        norm.training
        and norm.affine
        and norm.track_running_stats
        # A buffer may have been taken away, and torch does without it.
        and norm.running_mean is not None
        and norm.running_var is not None
        and norm.num_batches_tracked is not None
        and norm.momentum is not None
        and x.ndim == 4
        and direct(x)
        and kernels.serve(x, norm.weight)
        and x.dtype is torch.float32 is norm.weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and x.shape[1] == norm.num_features
        and x.shape[1] % 8 == 0
        and x.numel() > x.shape[1]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        slope: float,
    ) -> Tensor:
        maps = _rows(x)
        count, channels = maps.shape
        mean, squares = np.zeros(channels), np.zeros(channels)
        sums = np.empty((-(-count // _cpu().ROWS), 2, channels), np.float32)
        _in_chunks(_cpu().moments, maps, sums)
        _cpu().together(maps, sums, mean, squares)
        _follow(running_mean, mean, momentum)
        _follow(running_var, squares / (count - 1), momentum)
        root = 1 / np.sqrt(squares / count + eps)
        scale = weight.detach().numpy() * root
        # Kernels subtract the mean rounded to float32; what the rounding took is put right in what they add.
        middle = mean.astype(np.float32)
        missed = mean - middle
        shift = bias.detach().numpy() - missed * scale
        ctx.save_for_backward(x, weight, bias)
        ctx.eps, ctx.slope, ctx.root, ctx.missed = eps, slope, root, missed
        ctx.given = middle, *(np.asarray(v, np.float32) for v in (scale, shift, [slope]))
        out = torch.empty_like(x, memory_format=torch.channels_last)
        _in_rows(_cpu().activated, maps, *ctx.given, _rows(out))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled() or not direct(gradient):
            # Gradients of gradients are torch's, as is what arrives as another kind of tensor.
            return (*_plain_gradients(ctx, gradient, x, weight, bias), *(None,) * 5)
        maps, g, root, missed = _rows(x), _rows(gradient), ctx.root, ctx.missed
        count, channels = maps.shape
        sums = np.empty((-(-count // _cpu().ROWS), 2, channels), np.float32)
        _in_chunks(_cpu().gradient_sums, maps, g, *ctx.given, sums)
        of_bias, of_weight = sums.sum(0, dtype=np.float64)
        of_weight = (of_weight - missed * of_bias) * root
        found: list[Tensor | None] = [None, None, None]
        if ctx.needs_input_grad[0]:
            found[0] = of_x = torch.empty_like(x, memory_format=torch.channels_last)
            scale = weight.detach().numpy() * root
            slant = -scale * root * of_weight / count
            level = -scale * of_bias / count - slant * missed
            rest = (slant.astype(np.float32), level.astype(np.float32), _rows(of_x))
            _in_rows(_cpu().gradient, maps, g, *ctx.given, *rest)
        for i, value in ((1, of_weight), (2, of_bias)):
            if ctx.needs_input_grad[i]:
                found[i] = torch.from_numpy(value.astype(np.float32))
        return (*found, *(None,) * 5)


def _plain_gradients(ctx: Any, gradient: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    wanted = [tensor for tensor, want in zip(inputs, ctx.needs_input_grad, strict=False) if want]
    x, weight, bias = inputs
    with torch.enable_grad():
        z = functional.batch_norm(x, None, None, weight, bias, training=True, eps=ctx.eps)
        found = iter(
            torch.autograd.grad(
                functional.leaky_relu(z, ctx.slope), wanted, gradient, create_graph=torch.is_grad_enabled()
            )
        )
    return tuple(next(found) if want else None for want in ctx.needs_input_grad[:3])


def _rows(x: Tensor) -> Any:
    return x.detach().permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1]).numpy()


def _follow(running: Tensor, value: Any, momentum: float) -> None:
    running.lerp_(torch.from_numpy(value).to(running.dtype), momentum)


def _in_rows(kernel: Any, maps: Any, *arguments: Any) -> None:
    work = int(_NANOSECONDS * maps.size)
    threads.run(kernel, (maps, *arguments), threads.even_parts(len(maps), work, 16))


def _in_chunks(kernel: Any, maps: Any, *arguments: Any) -> None:
    work = int(_NANOSECONDS * maps.size)
    threads.run(kernel, (maps, *arguments), threads.even_parts(len(arguments[-1]), work))


@cache
def _cpu() -> ModuleType:
    # numba takes half a second to import, and kernels are compiled (once a machine) at their first call.
    from layerlab.segmentation.kernels import normalisation_cpu

    return normalisation_cpu
