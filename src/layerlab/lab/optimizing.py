"""An optimizer's ``zero_grad`` and ``step`` without the bookkeeping around them.

On a small model torch's fused Adam takes 0.15 ms a step, of which the update itself has a tenth: the rest are profiler
records, hooks, guards for tracing, and sorting parameters by device, anew at every step.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from layerlab.lab import private
from layerlab.lab.kernels import openmp, threads

# What `torch.optim.Adam` calls `torch._fused_adam_` for, and nothing else.
_PLAIN = {
    "amsgrad": False,
    "maximize": False,
    "capturable": False,
    "differentiable": False,
    "fused": True,
    "decoupled_weight_decay": False,
}

# Of a number's update on one core, by which it is decided whether a second one pays.
_NANOSECONDS = 0.5

_Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


def zero_grad(optimizer: torch.optim.Optimizer) -> None:
    """``optimizer.zero_grad()``: gradients become None."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def step(optimizer: torch.optim.Optimizer) -> None:
    """``optimizer.step()``; the short way for a fused `torch.optim.Adam` of numbers on a CPU that nobody watches.

    The same update with the same bits, in the same state tensors. The first step, which makes them, and every
    optimizer, option, hook or scheduler beyond the plain case go through ``optimizer.step()``.
    """
    groups = _lists(optimizer) if _unwatched(optimizer) else None
    if groups is None:
        optimizer.step()
    else:
        _short(optimizer, groups)


def _short(optimizer: torch.optim.Optimizer, groups: list[_Lists]) -> None:
    work = _NANOSECONDS * sum(parameter.numel() for group in groups for parameter in group[0])
    with torch.no_grad(), openmp.alone() if work < threads.SMALL else nullcontext():
        for group, (parameters, gradients, means, squares, counts) in zip(
            optimizer.param_groups, groups, strict=True
        ):
            beta1, beta2 = group["betas"]
            for count in counts:
                count.numpy()[()] += 1  # torch's addition takes ten times as long
            private.fused_adam(
                *(parameters, gradients, means, squares, [], counts),
                amsgrad=False,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )


def _unwatched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` is torch's own, with no hook, scheduler or gradient scaler around it."""
    if type(optimizer) is not torch.optim.Adam or private.fused_adam is None:
        return False
    own: dict[str, Any] = vars(optimizer)
    hooks = (*private.step_hooks, *(own.get(name) for name in private.own_step_hooks))
    return (
        all(hook is not None and not hook for hook in hooks)
        and "step" not in own
        and "grad_scale" not in own
        and "found_inf" not in own
        and not torch.compiler.is_compiling()
    )


def _lists(optimizer: torch.optim.Optimizer) -> list[_Lists] | None:
    """Parameters, gradients, both moments and step counts, a group each; None where the short way does not serve."""
    found = []
    for group in optimizer.param_groups:
        for option, plain in _PLAIN.items():
            if group.get(option, False) is not plain:
                return None
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None:
                if not parameter.is_cpu or gradient.is_sparse:
                    return None
                parameters.append(parameter)
                gradients.append(gradient)
        states: list[dict[str, Tensor]] = [optimizer.state.get(parameter) or {} for parameter in parameters]
        dtypes = {parameter.dtype for parameter in parameters}
        # A first step, a group without gradients or with several dtypes, a learning rate that is a tensor.
        if not all(states) or len(dtypes) != 1 or isinstance(group["lr"], Tensor):
            return None
        if not dtypes.pop().is_floating_point:
            return None
        means, squares, counts = ([s[name] for s in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        found.append((parameters, gradients, means, squares, counts))
    return found
