"""Attention that cannot be watched: where it is, and why."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.lab.models import untouched


@dataclass(frozen=True)
class Unseen:
    """Attention, or what looks like it, that is not among the calls.

    Attributes:
        module: path of the innermost module.
        kind: its class.
        place: file and line of the code, as far as known.
        why: the reason, with the mend.
    """

    module: str
    kind: str
    place: str
    why: str


_SOFTMAX = {"softmax", "_softmax", "_safe_softmax"}
# What attention weights pass through between their softmax and the values.
_CARRY = {
    *(
        "dropout",
        "to",
        "type",
        "type_as",
        "float",
        "half",
        "bfloat16",
        "double",
        "clone",
        "contiguous",
        "detach",
    ),
    *(
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "transpose",
        "permute",
        "mT",
        "squeeze",
        "unsqueeze",
        "expand",
    ),
    *(
        "masked_fill",
        "masked_fill_",
        "where",
        "nan_to_num",
        "mul",
        "mul_",
        "div",
        "div_",
        "add",
        "add_",
        "sub",
    ),
    *("__getitem__", "__get__", "split", "chunk", "unbind", "repeat_interleave", "repeat", "cat"),
}
# Modules of Python between torch and what it calls.
_PLUMBING = {"contextlib", "functools", "unittest.mock"}
_PRODUCT = {"matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "baddbmm", "einsum"}


_CALL = "if it is attention, call torch.nn.functional.scaled_dot_product_attention instead"
_SDPA = 'load this model with attn_implementation="sdpa"'


class Softmaxes:
    """Finds attention that is written by hand: a softmax over the last dimension that ends in a matrix product.

    Args:
        model: the model that is watched.

    Attributes:
        found: one entry for every line of code and module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._mend = _SDPA if eager(model) else _CALL
        self._found: dict[tuple[str, str], Unseen] = {}
        self._tagged: dict[int, weakref.ref[Tensor]] = {}

    @property
    def found(self) -> tuple[Unseen, ...]:
        return tuple(self._found.values())

    def look(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, module: tuple[str, str]
    ) -> None:
        """Takes note of one call of torch, made in the module of this path and class."""
        name = getattr(func, "__name__", "")
        if name in _SOFTMAX and isinstance(result, Tensor):
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if result.dim() > 1 and axis in (-1, result.dim() - 1):
                self._tag(result)
        elif name == "flex_attention":
            self._report(module, "flex_attention changes scores by a function of its own")
        elif name in _CARRY and self._any(args):
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, Tensor):
                    self._tag(tensor)
        elif name in _PRODUCT and (self._any(args) or self._any(kwargs.values())):
            self._report(module, f"a softmax and a matrix product written by hand: {self._mend}")

    def _report(self, module: tuple[str, str], why: str) -> None:
        where = place()
        self._found.setdefault((module[0], where), Unseen(module[0], module[1], where, why))

    def _tag(self, tensor: Tensor) -> None:
        self._tagged[id(tensor)] = weakref.ref(tensor)

    def _any(self, values: Any) -> bool:
        return any(self._is(value) for value in values)

    def _is(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            kept = self._tagged.get(id(value))
            return kept is not None and kept() is value
        return isinstance(value, (tuple, list)) and self._any(value)


def scripted(model: nn.Module) -> Iterator[Unseen]:
    """The scripted and traced parts of a model that compute attention."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule) or module in inside:
            continue
        inside.update(module.modules())
        graph = str(getattr(module, "inlined_graph", ""))
        by_hand = "aten::softmax" in graph and any(
            f"aten::{p}(" in graph for p in ("matmul", "bmm", "einsum")
        )
        if by_hand or "scaled_dot_product_attention" in graph or "multi_head_attention" in graph:
            why = "it is scripted or traced (torch.jit): use the module that it was made from"
            yield Unseen(name, getattr(module, "original_name", type(module).__name__), "", why)


def eager(model: nn.Module) -> bool:
    """Whether a model of Hugging Face's computes its attention by hand."""
    return any(
        getattr(getattr(module, "config", None), "_attn_implementation", None) == "eager"
        for module in model.modules()
    )


def place() -> str:
    """File and line of the innermost code that is neither torch's nor this package's; "" where there is none."""
    own = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename != untouched.__file__:
        frame = frame.f_back
        if not frame.f_code.co_filename.startswith(own) and frame.f_globals.get("__name__") not in _PLUMBING:
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    return ""
