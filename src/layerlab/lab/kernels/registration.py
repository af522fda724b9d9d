"""How a kernel becomes a torch operator, and how plain tensors reach it without the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layerlab.lab import private

_PLAIN = (Tensor, torch.nn.Parameter)

_library = torch.library.Library("layerlab", "DEF")


def plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but numbers on a CPU: no subclass, no other device."""
    return type(tensor) in _PLAIN and tensor.is_cpu


def direct(tensor: Tensor) -> bool:
    """Whether a kernel may be called straight away: a plain CPU tensor, and nobody traces or transforms.

    For a Python kernel the dispatcher takes 30 microseconds to arrive at the same place.
    """
    return (
        plain(tensor)
        and not torch.compiler.is_compiling()
        and private.dispatch_modes is not None
        and private.transforms_active is not None
        and private.batched is not None
        and not private.dispatch_modes()
        and not private.transforms_active()
        and not private.batched(tensor)
    )


def _overload(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(getattr(torch.ops.layerlab, name), "default")  # noqa: B009 (of a packet)
    return found


def operator(
    schema: str, cpu: Callable[..., Any], fake: Callable[..., Any], function: Any = None
) -> Callable[..., Any]:
    """Register an operator, ``torch.ops.layerlab.*``, and return what calls it the shortest way.

    Args:
        schema: name, arguments and results; the first argument is a tensor.
        cpu: the implementation.
        fake: the same for shapes only.
        function: a ``torch.autograd.Function``, or None for an operator without a gradient; it gets a ``call`` for
            its forward.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, cpu, "CPU")
    torch.library.register_fake(f"layerlab::{name}", fake, lib=_library)
    overload = _overload(name)

    def shortest(*arguments: Any) -> Any:
        if not direct(arguments[0]):
            return overload(*arguments)
        return cpu(*arguments) if function is None else differentiable(*arguments)

    if function is None:
        return shortest

    numbers_only = None
    if private.below_autograd is None:
        # The same without a gradient, as an operator of its own.
        _library.define(schema.replace(name, f"{name}_numbers", 1))
        _library.impl(f"{name}_numbers", cpu, "CPU")
        torch.library.register_fake(f"layerlab::{name}_numbers", fake, lib=_library)
        numbers_only = _overload(f"{name}_numbers")

    def call(*arguments: Any) -> Any:
        if direct(arguments[0]):
            return cpu(*arguments)
        if numbers_only is not None:
            return numbers_only(*arguments)
        with private.below_autograd():
            return overload(*arguments)

    def differentiable(*arguments: Any) -> Any:
        if torch.is_grad_enabled():
            for given in arguments:
                if isinstance(given, Tensor) and given.requires_grad:
                    return function.apply(*arguments)
        return call(*arguments)

    function.call = staticmethod(call)
    _library.impl(name, differentiable, "Autograd")
    return shortest
