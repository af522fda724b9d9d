"""Inputs from a numpy archive, as arguments of a model."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.arrays import read_npz

Arguments = tuple[Tensor, ...] | dict[str, Tensor]

# numpy's own names of arrays that were saved without one, and ours.
_NUMBERED = re.compile(r"arr_(\d+)|arg(\d+)")


def read_inputs(path: str | Path, model: nn.Module, dtype: torch.dtype) -> tuple[Arguments, list[str]]:
    """The arrays of an ``.npz`` as arguments of ``model.forward``, and remarks on what was changed.

    Arrays that are named like parameters of ``forward`` are passed by name. Otherwise a single array is the first
    argument, and ``arr_0``, ``arr_1``, … (as `numpy.savez` calls them) or ``arg0``, ``arg1``, … are the first, second,
    … Real numbers become ``dtype``, integers int64; booleans stay.

    Args:
        path: the file.
        model: whose ``forward`` is asked for its parameters.
        dtype: of the model.

    Raises:
        UserError: the file cannot be read (see `layerlab.lab.arrays.read_npz`), holds no array or one that is no
            number, or has names that fit no parameter.
    """
    arrays = read_npz(path)
    if not arrays:
        raise UserError("holds no array; save one with numpy.savez(path, x=x)", file=path)
    tensors, notes = {}, []
    for name, array in arrays.items():
        tensors[name] = tensor = _tensor(name, array, dtype, path)
        came = str(array.dtype)
        if str(tensor.dtype) != f"torch.{came}":
            notes.append(
                f"the input {name} was converted from {came} to {str(tensor.dtype).removeprefix('torch.')}"
            )
    parameters = inspect.signature(model.forward).parameters
    kinds = {p.kind for p in parameters.values()}
    if all(name in parameters for name in tensors) or (
        inspect.Parameter.VAR_KEYWORD in kinds and not _numbered(tensors)
    ):
        return tensors, notes
    if len(tensors) == 1:
        return tuple(tensors.values()), notes
    if places := _numbered(tensors):
        return tuple(tensors[name] for name in places), notes
    raise UserError(
        f"holds the arrays {', '.join(tensors)}, and forward takes {', '.join(parameters)}; name the arrays "
        "after these, or arr_0, arr_1, ... in their order",
        file=path,
    )


def _numbered(tensors: dict[str, Tensor]) -> list[str]:
    """The names in the order of their numbers, if they are numbered 0, 1, …; else none."""
    places = {}
    for name in tensors:
        found = _NUMBERED.fullmatch(name)
        if found is None:
            return []
        places[int(found[1] or found[2])] = name
    return [places[i] for i in range(len(tensors))] if set(places) == set(range(len(tensors))) else []


def _tensor(name: str, array: NDArray[np.generic], dtype: torch.dtype, path: str | Path) -> Tensor:
    kind = array.dtype.kind
    if kind not in "biuf":
        raise UserError(
            f"the array {name!r} is of dtype {array.dtype}; expected real numbers, integers or booleans",
            file=path,
        )
    # A copy in the machine's byte order: torch knows no other.
    if kind == "f":
        return torch.from_numpy(array.astype(np.float64)).to(dtype)
    if kind == "b":
        return torch.from_numpy(array.astype(np.bool_))
    if kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise UserError(f"the array {name!r} has integers beyond 2^63", file=path)
    return torch.from_numpy(array.astype(np.int64))
