"""The names of torch that are not public, in one place: None where this torch does not have one.

They save time and nothing else. Whoever uses one looks whether it is there, and takes the public way if it is not.
"""

from __future__ import annotations

import sys
from typing import Any

import torch


def find(root: Any, path: str) -> Any:
    """``root.path``, or None where a part of the dotted path is missing.

    >>> find(torch, "nn.Linear") is torch.nn.Linear, find(torch, "nn.of_another_version")
    (True, None)
    """
    for name in path.split("."):
        root = getattr(root, name, None)
    return root


# Whether somebody traces or transforms what plain tensors compute.
dispatch_modes = find(torch, "_C._len_torch_dispatch_stack")
transforms_active = find(torch, "_C._are_functorch_transforms_active")
# Whether a tensor is a batch of them under torch.autograd.grad(is_grads_batched=True): no transform counts it.
batched = find(torch, "_C._functorch.is_legacy_batchedtensor")
# In torch.autograd.forward_ad: the level of forward-mode derivatives, -1 outside of all.
FORWARD_LEVEL = "_current_level"
# Leads an operator's call past its own autograd kernel.
below_autograd = find(torch, "_C._AutoDispatchBelowAutograd")

# The step of an optimizer, below its bookkeeping, and the hooks that the bookkeeping would call.
fused_adam = find(torch, "_fused_adam_")
_optimizers = sys.modules[torch.optim.Optimizer.__module__]
step_hooks = (
    find(_optimizers, "_global_optimizer_pre_hooks"),
    find(_optimizers, "_global_optimizer_post_hooks"),
)
own_step_hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")

# Who listens to the calls of modules.
_modules = sys.modules[torch.nn.Module.__module__]
module_hooks = tuple(
    find(_modules, f"_global_{name}")
    for name in ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
)
own_module_hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

# Who listens to the gradient of a parameter, once it is stored.
ACCUMULATION_HOOKS = "_post_accumulate_grad_hooks"
