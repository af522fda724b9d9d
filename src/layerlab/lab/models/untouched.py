"""A forward pass of a user's model that leaves no trace in it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.models.nested import leaves, replaced


def copied(value: Any) -> Any:
    """``value`` with every tensor in it cloned and detached."""
    for path, tensor in list(leaves(value)):
        value = replaced(value, path, tensor.detach().clone())
    return value


@contextlib.contextmanager
def unchanged(model: Callable[..., Any], seed: int) -> Iterator[None]:
    """Seeds all random number generators, and takes back everything that a forward pass changes in the model."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    attributes = [(module, dict(vars(module))) for module in modules]
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (table, dict(table))
        for module in modules
        for table in cast(tuple[dict[str, Any], ...], (module._parameters, module._buffers, module._modules))
    ]
    parameters = [] if not modules else [(n, p, p._version) for n, p in modules[0].named_parameters()]
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
    for name, parameter, version in parameters:
        if parameter._version != version:
            raise UserError(
                f"the model writes to its parameter {name} in the forward pass: its Jacobian changes with every call"
            )
