"""Dense Jacobians between two points of a model by torch.func.jacrev and hooks: nothing of layerlab in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def matrix(model: nn.Module, inputs: Any, start: str, stop: str, samples: int) -> Tensor:
    """(B, m, n) ∂stop/∂start of each sample.

    Args:
        model: a module.
        inputs: a tensor or a tuple, of which the first is differentiated; of integers the first embedding's output.
        start: "input", or a point as `layerlab.gradflow` names it: "layers.3", "layers.3:input", "layers.3#1".
        stop: a point, or "output".
        samples: B; 1 for the batch as one sample.
    """
    function, x = between(model, inputs, start, stop)
    shape = function(x).shape
    try:
        with sdpa_kernel(SDPBackend.MATH):
            full = torch.func.jacrev(function, chunk_size=64)(x)
    except RuntimeError:
        # Kernels that torch cannot batch (recurrent ones, our own): row by row.
        full = torch.autograd.functional.jacobian(function, x)
    rows, columns = shape.numel() // samples, x.numel() // samples
    full = full.detach().reshape(samples, rows, samples, columns)
    return torch.stack([full[b, :, b] for b in range(samples)])


def between(
    model: nn.Module, inputs: Any, start: str, stop: str
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The function from the value at ``start`` to that at ``stop``, and the value at ``start``."""
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    if start == "input" and not args[0].is_floating_point():
        first = next(name for name, module in model.named_modules() if isinstance(module, nn.Embedding))
        start = first
    x = args[0] if start == "input" else _run(model, args, {}, start)

    def function(value: Tensor) -> Tensor:
        if start == "input":
            return _run(model, (value, *args[1:]), {}, stop)
        return _run(model, args, {start: value}, stop)

    return function, x.detach()


def _run(model: nn.Module, args: tuple[Any, ...], replaced: dict[str, Tensor], wanted: str) -> Tensor:
    seen: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for point in (*replaced, *([] if wanted == "output" else [wanted])):
            stack.enter_context(_tapped(model, point, replaced.get(point), seen))
        given = tuple(a.clone() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        result = model(*given)
    found = result if wanted == "output" else seen[wanted]
    return next(iter(found.values())) if isinstance(found, dict) else found


@contextlib.contextmanager
def _tapped(model: nn.Module, point: str, value: Tensor | None, seen: dict[str, Tensor]) -> Iterator[None]:
    path, _, side = point.partition(":")
    name, _, number = path.partition("#")
    count = {"input": 0, "output": 0}

    def tap(now: str, tensor: Tensor) -> Tensor | None:
        count[now] += 1
        if now != (side or "output") or count[now] - 1 != int(number or 0):
            return None
        # Copies, since the next module may write to what it is given.
        seen[point] = tensor.clone()
        return None if value is None else value.clone()

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        other = tap("input", args[0])
        return None if other is None else (other, *args[1:])

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        other = tap("output", first)
        if other is None:
            return None
        return (other, *output[1:]) if isinstance(output, tuple) else other

    module = model.get_submodule(name)
    handles = (module.register_forward_pre_hook(before), module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
