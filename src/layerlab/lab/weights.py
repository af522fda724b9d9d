"""Weights on disk: safetensors, written atomically, read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.files import write_atomic


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors and a header of strings as one safetensors file, whole or not at all.

    Raises:
        UserError: the file cannot be written; an old one is still there then.
    """
    # safetensors refuses tensors that share memory or are strided views; a contiguous clone is neither.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomic(path, save(plain, metadata=dict(header or {})))


def read_tensors(path: Path, mend: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write_tensors` wrote: the tensors, on the CPU, and the header.

    Args:
        path: the file.
        mend: what to do when it is damaged, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or is no safetensors file.
    """
    try:
        # safe_open takes every file that it cannot open for a missing one; Python tells them apart.
        path.open("rb").close()
        with safe_open(path, "pt") as file:
            # Clones, since the originals are the file's pages: Windows could not replace it while they live.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot be read ({error}); {mend}", file=path) from None


def misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """How the tensors of a file differ from a model's in name, shape or dtype; None when they do not.

    >>> misfit(nn.Linear(2, 1).state_dict(), nn.Linear(3, 1).state_dict())
    "'weight' should be float32 1 x 2, is float32 1 x 3"
    """
    for name in sorted({*expected, *found}):
        wanted, got = (_describe(tensors.get(name)) for tensors in (expected, found))
        if wanted != got:
            return f"{name!r} should be {wanted}, is {got}"
    return None


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{str(tensor.dtype).removeprefix('torch.')} {' x '.join(map(str, tensor.shape)) or 'scalar'}"


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a model's weights; names, shapes and dtypes must be exactly the model's.

    Raises:
        UserError: the file is missing or damaged, or holds another model's weights; the model is unchanged then.
    """
    try:
        tensors, _ = read_tensors(path, "train again")
    except FileNotFoundError:
        raise UserError("the weights are missing; train again", file=path) from None
    if difference := misfit(model.state_dict(), tensors):
        raise UserError(f"weights of another model: {difference}; train again", file=path)
    model.load_state_dict(tensors)
