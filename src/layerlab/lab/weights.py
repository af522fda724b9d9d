"""Weights on disk: safetensors, written atomically, read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.files import write_atomic


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors and a header of strings as one safetensors file, whole or not at all."""
    # safetensors refuses tensors that share memory or are strided views; a contiguous clone is neither.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomic(path, save(plain, metadata=dict(header or {})))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a model's weights; names and shapes must be exactly the model's.

    Raises:
        UserError: the file is missing or damaged, or holds another model's weights.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise UserError("the weights are missing; train again", file=path) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read the weights ({error}); train again", file=path) from None
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if expected != found:
        differing = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise UserError(
            f"weights of another model: {differing!r} should be {expected.get(differing, 'absent')}, "
            f"is {found.get(differing, 'absent')}",
            file=path,
        )
    model.load_state_dict(tensors)
