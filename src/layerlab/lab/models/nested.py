"""Tensors inside what models take and return: tuples, lists, mappings and dataclasses of tensors."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from torch import Tensor

Key: TypeAlias = int | str
Path: TypeAlias = tuple[Key, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in ``value`` with its path, in order.

    >>> import torch
    >>> [path for path, _ in leaves((torch.ones(1), {"h": [torch.ones(2), None]}))]
    [(0,), (1, 'h', 0)]
    """
    if isinstance(value, Tensor):
        yield path, value
    else:
        for key, item in _items(value):
            yield from leaves(item, (*path, key))


def replaced(value: Any, path: Path, tensor: Tensor) -> Any:
    """A copy of ``value`` with the tensor at ``path`` exchanged; containers off the path are shared.

    >>> import torch
    >>> replaced((torch.ones(1), [3]), (0,), torch.zeros(1))
    (tensor([0.]), [3])
    """
    if not path:
        return tensor
    key, rest = path[0], path[1:]
    if isinstance(value, tuple):
        items = [replaced(item, rest, tensor) if i == key else item for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    new = copy.copy(value)
    if isinstance(new, list):
        new[int(key)] = replaced(value[int(key)], rest, tensor)
    elif isinstance(new, MutableMapping):
        new[key] = replaced(value[key], rest, tensor)
    else:
        setattr(new, str(key), replaced(getattr(value, str(key)), rest, tensor))
    return new


def spelled(path: Path) -> str:
    """A path as a user writes it: ``0``, ``'logits'``, ``(1, 0)``."""
    return repr(path[0] if len(path) == 1 else path)


def _items(value: Any) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
