"""A forward pass of a user's model that leaves no trace in it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.models.nested import leaves, replaced
from layerlab.lab.subjects import user_code


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A tensor, a tuple of arguments or a mapping of named ones, as positional and named arguments.

    >>> arguments({"x": 1}), arguments((1, 2))
    (((), {'x': 1}), ((1, 2), {}))
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def passed(model: Callable[..., Any], inputs: Any, seed: int) -> Any:
    """What the model returns for ``inputs``; it and they are left as they were.

    Args:
        model: the module, or a function.
        inputs: see `arguments`.
        seed: of all random numbers drawn in the pass.

    Raises:
        UserError: the model raises, told with file and line.

    >>> passed(torch.nn.ReLU(), torch.tensor([-1.0, 2.0]), 0)
    tensor([0., 2.])
    """
    args, kwargs = arguments(copied(inputs))
    with unchanged(model, seed):
        shapes = ", ".join(str(tuple(t.shape)) for _, t in leaves({**dict(enumerate(args)), **kwargs}))
        with user_code(f"the model, called with inputs of shape {shapes}, raised"):
            return model(*args, **kwargs)


def copied(value: Any) -> Any:
    """``value`` with every tensor in it cloned and detached."""
    for path, tensor in list(leaves(value)):
        value = replaced(value, path, tensor.detach().clone())
    return value


@contextlib.contextmanager
def unchanged(model: Callable[..., Any], seed: int) -> Iterator[None]:
    """Seeds all random number generators, and takes back everything that a forward pass changes in the model."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    # What is scripted keeps its tables out of Python's reach: there the numbers are put back.
    scripted = [module for module in modules if isinstance(module, torch.jit.ScriptModule)]
    modules = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    numbers = [(b, b.detach().clone()) for module in scripted for b in module.buffers(recurse=False)]
    attributes = [(module, dict(vars(module))) for module in modules]
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (table, dict(table))
        for module in modules
        for table in cast(tuple[dict[str, Any], ...], (module._parameters, module._buffers, module._modules))
    ]
    parameters = (
        [(n, p, p._version) for n, p in model.named_parameters()] if isinstance(model, nn.Module) else []
    )
    clones: dict[int, Tensor] = {}
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = clones.setdefault(id(buffer), buffer.detach().clone())
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's generator, put back)
    with torch.random.fork_rng(enabled=True):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
            for module, before in attributes:
                vars(module).clear()
                vars(module).update(before)
            for table, entries in tables:
                table.clear()
                table.update(entries)
            with torch.no_grad():
                for buffer, number in numbers:
                    buffer.copy_(number)
    for name, parameter, version in parameters:
        if parameter._version != version:
            raise UserError(
                f"the model writes to its parameter {name} in the forward pass: its Jacobian changes with every call"
            )
