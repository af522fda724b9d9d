"""The batch norm of a batch that several processes share: statistics over all of it, as one process has them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from layerlab.lab.process_group import Group

_PLACES = (0, 2, 3)


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm that in training takes mean and variance over the images of all processes.

    ``y = w (x - mean) / sqrt(var + eps) + b`` over all images and pixels, and gradients through both moments, as of one
    process with all images; gradients of gradients are refused. Evaluation is the ordinary norm's. torch's
    SyncBatchNorm does this between GPUs only.

    Args:
        norm: whose parameters, statistics and options are taken over; with a momentum.
        group: the processes; each takes part in every call.
    """

    def __init__(self, norm: nn.BatchNorm2d, group: Group) -> None:
        like: dict[str, Any] = {"device": norm.weight.device, "dtype": norm.weight.dtype}
        super().__init__(norm.num_features, norm.eps, norm.momentum, **like)
        self.load_state_dict(norm.state_dict())
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        out, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self.group)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None  # for the type checker
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return cast(Tensor, out)


def share_norms(model: nn.Module, group: Group) -> None:
    """Put a `SharedBatchNorm` in the place of every batch norm."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, SharedBatchNorm(child, group))


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, group: Group) -> Any:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        own = x.numel() // x.shape[1]
        # Mean and squares about it of each share, put together (Chan, Golub and LeVeque 1979): squares about zero
        # would cancel.
        here = wide.mean(_PLACES)
        squares = (wide - _map(here)).square().sum(_PLACES)
        parts = group.stacked(torch.cat([here.new_tensor([own]), here, squares]).double())
        counts, means, sums = parts[:, :1], *parts[:, 1:].chunk(2, 1)
        count = float(counts.sum())
        mean = (counts * means).sum(0) / count
        variance = (sums + counts * (means - mean).square()).sum(0) / count
        mean, variance = mean.to(wide.dtype), variance.to(wide.dtype)
        scale = (variance + eps).rsqrt()
        out = (wide - _map(mean)) * _map(scale * weight) + _map(bias)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.count, ctx.group = count, group
        ctx.mark_non_differentiable(mean, variance)
        return out.to(x.dtype), mean, variance, count

    @staticmethod
    # The exchange between processes would be missing from a second derivative, without a word.
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, mean, scale = ctx.saved_tensors
        wide = x.to(mean.dtype)
        gradient = gradients[0].to(mean.dtype)
        normal = (wide - _map(mean)) * _map(scale)
        of_bias, of_weight = gradient.sum(_PLACES), (gradient * normal).sum(_PLACES)
        everywhere = ctx.group.stacked(torch.stack([of_bias, of_weight])).sum(0) / ctx.count
        inner = gradient - _map(everywhere[0]) - normal * _map(everywhere[1])
        return (inner * _map(scale * weight)).to(x.dtype), of_weight, of_bias, None, None


def _map(channels: Tensor) -> Tensor:
    return channels[:, None, None]
