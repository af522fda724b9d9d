"""What a model can be called with, if its user does not say: its own example, or what its first layer takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.models.input_shapes import InputShape
from layerlab.lab.models.nested import leaves
from layerlab.lab.subjects import beside, user_code

EXAMPLE = "example_inputs"
"""The function beside a factory that is asked for inputs."""

_BATCH, _STEPS = 16, 16


def own_example(subject: str, model: nn.Module) -> tuple[Any, str] | None:
    """The inputs that come with a model, and where from: ``example_inputs()`` beside its factory, or its attribute
    ``example_input_array`` (as Lightning has it).

    Raises:
        UserError: ``example_inputs`` raises, or there is no tensor in what it returns.
    """
    maker = beside(subject, EXAMPLE)
    if callable(maker):
        with user_code(f"{EXAMPLE}() raised"):
            found = maker()
        source = f"{EXAMPLE}() of {subject.rpartition(':')[0]}"
    else:
        found = getattr(model, "example_input_array", None)
        source = "the model's example_input_array"
        if found is None:
            return None
    if not list(leaves(found)) and not isinstance(found, Tensor):
        raise UserError(
            f"{source} is {type(found).__name__} without a tensor; expected a tensor, tuple or mapping"
        )
    return found, source


def inferred(model: nn.Module) -> tuple[InputShape, str]:
    """A shape that the first layer takes, and why.

    Raises:
        UserError: the first layer does not tell; the message has an example of ``--input-shape``.

    >>> inferred(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))[1]
    'the first layer is Linear(3, 2)'
    """
    first = _first(model)
    if isinstance(first, nn.Linear):
        shape, layer = (
            InputShape(None, (_BATCH, first.in_features)),
            f"Linear({first.in_features}, {first.out_features})",
        )
    elif isinstance(first, nn.Embedding):
        shape = InputShape(None, (_BATCH // 4, _STEPS), first.num_embeddings)
        layer = f"Embedding({first.num_embeddings}, {first.embedding_dim})"
    elif isinstance(first, nn.RNNBase):
        sizes = (_BATCH // 4, _STEPS) if first.batch_first else (_STEPS, _BATCH // 4)
        shape = InputShape(None, (*sizes, first.input_size))
        layer = f"{type(first).__name__}({first.input_size}, {first.hidden_size})"
    else:
        raise UserError(_ask(first))
    return shape, f"the first layer is {layer}"


def _first(model: nn.Module) -> nn.Module | None:
    """The first registered module that has weights of its own."""
    for module in model.modules():
        if any(parameter.ndim > 1 for parameter in module.parameters(recurse=False)):
            return module
    return None


def _ask(first: nn.Module | None) -> str:
    example, known = "16,64", "the model does not tell the shape of its input"
    if isinstance(first, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        sides = {1: "128", 2: "32,32", 3: "16,16,16"}[len(first.kernel_size)]
        example = f"8,{first.in_channels},{sides}"
        known = f"the first layer takes {first.in_channels} channels, but the model does not tell their size"
    return f"{known}; give it with the batch, for instance --input-shape {example}"


def suits(inputs: Any, model: nn.Module, dtype: torch.dtype) -> Any:
    """``inputs`` with real numbers in ``dtype``, on the model's device."""
    from layerlab.lab.models.nested import replaced

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for path, tensor in list(leaves(inputs)):
        wanted = tensor.to(device, dtype if tensor.is_floating_point() else None)
        inputs = replaced(inputs, path, wanted)
    return inputs
