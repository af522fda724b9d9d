"""Attention in a user's model: seen where it is computed, and exchanged there for something else."""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from layerlab.attention.calls import AttentionCall, plain_mask
from layerlab.attention.reference import softmax_weights
from layerlab.attention.unseen import Softmaxes, Unseen, place, scripted
from layerlab.errors import UserError
from layerlab.lab.models.untouched import passed

MODEL = "(model)"

Replacement = Callable[[AttentionCall], Tensor]
"""From a call to its output ``(batch, heads, n, e)``."""

_SDPA = functional.scaled_dot_product_attention
_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_MHA = inspect.signature(functional.multi_head_attention_forward)


@dataclass(frozen=True)
class Watched:
    """What was seen of a model's attention.

    Attributes:
        calls: in the order in which they are computed.
        unseen: what computes attention, or seems to, and cannot be watched.
        output: what the model returned.
    """

    calls: tuple[AttentionCall, ...]
    unseen: tuple[Unseen, ...]
    output: Any


def attention_calls(model: nn.Module, inputs: Any, seed: int = 0) -> Watched:
    """One forward pass, and every attention in it; the model is left as it was.

    Seen are calls of `torch.nn.functional.scaled_dot_product_attention` wherever they stand, and
    `torch.nn.MultiheadAttention` with what is made of it (`torch.nn.TransformerEncoder` and the like). Compiled parts
    run uncompiled. Shapes of other than 4 dimensions are brought to ``(batch, heads, n, d)``.

    Args:
        model: the module.
        inputs: a tensor, a tuple of arguments or a mapping of named ones.
        seed: of the random numbers that the pass draws.

    Raises:
        UserError: the model raises (with file and line), or queries, keys or values are NaN or Inf.

    >>> attention = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = torch.ones(3, 5, 8)
    >>> [(c.site, tuple(c.q.shape)) for c in attention_calls(attention, (x, x, x)).calls]
    [('(model)', (3, 2, 5, 4))]
    """
    calls: list[AttentionCall] = []

    def keep(call: AttentionCall) -> Tensor:
        output = call.output
        for name, tensor in (("queries", call.q), ("keys", call.k), ("values", call.v)):
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(
                    f"NaN or Inf among the {name} of the attention at {call.site} ({call.place}): look for what "
                    "makes them before it"
                )
        kept = output.detach().clone()
        mask = None if call.mask is None else call.mask.detach().clone()
        q, k, v = (t.detach().clone() for t in (call.q, call.k, call.v))
        calls.append(replace(call, q=q, k=k, v=v, mask=mask, compute=lambda: kept))
        return output

    softmaxes = Softmaxes(model)
    with torch.no_grad(), _watching(model, keep, softmaxes) as mode, warnings.catch_warnings():
        # It is run uncompiled only here.
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        output = passed(model, inputs, seed)
    return Watched(tuple(calls), (*scripted(model), *mode.unseen, *softmaxes.found), output)


@contextlib.contextmanager
def replacing(model: nn.Module, replacements: Mapping[str, Replacement]) -> Iterator[None]:
    """Inside, the attention at the given sites is what the given functions compute.

    A function gets the call with its tensors as they are in that pass (they can be differentiated) and returns the
    output ``(batch, heads, n, e)``. Its ``call.output`` is the model's own, computed only if asked for.

    Args:
        model: the module, to be called inside.
        replacements: by site, as `attention_calls` names them.

    Raises:
        UserError: a function returns another shape.

    >>> attention = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = torch.ones(3, 5, 8)
    >>> with replacing(attention, {"(model)": lambda call: torch.zeros_like(call.output)}):
    ...     bool((attention(x, x, x)[0] == attention.out_proj.bias).all())
    True
    """

    def exchange(call: AttentionCall) -> Tensor:
        function = replacements.get(call.site)
        if function is None:
            return call.output
        output = function(call)
        wanted = (*call.q.shape[:3], call.v.shape[3])
        if tuple(output.shape) != wanted:
            raise UserError(
                f"what replaces the attention at {call.site} returned the shape {tuple(output.shape)}; expected "
                f"(batch, heads, n, e) = {wanted}"
            )
        return output

    with _watching(model, exchange, None):
        yield


@contextlib.contextmanager
def _watching(model: nn.Module, take: Replacement, softmaxes: Softmaxes | None) -> Iterator[_Mode]:
    """Hands every attention to ``take`` and goes on with what it returns."""
    mode = _Mode(take, softmaxes)
    fast = torch.backends.mha.get_fastpath_enabled()
    # torch's fused encoder layer computes attention where nobody can look.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            contextlib.ExitStack() as hooks,
            # What is compiled is run as it is written.
            torch.compiler.set_stance("force_eager"),
        ):
            for name, module in model.named_modules():
                if not isinstance(module, torch.jit.ScriptModule):
                    mode.follow(name, module, hooks)
            with mode:
                yield mode
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Mode(TorchFunctionMode):
    """Sees what torch is asked for."""

    def __init__(self, take: Replacement, softmaxes: Softmaxes | None) -> None:
        super().__init__()
        self.unseen: list[Unseen] = []
        self._take = take
        self._softmaxes = softmaxes
        self._stack: list[tuple[str, str]] = []
        self._counts: dict[str, int] = {}

    def follow(self, name: str, module: nn.Module, hooks: contextlib.ExitStack) -> None:
        """Keeps account of when ``module`` is being called."""

        def enter(module: nn.Module, args: Any) -> None:
            if not self._stack:
                self._counts.clear()
            self._stack.append((name, type(module).__name__))

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self._stack.pop()

        hooks.callback(module.register_forward_pre_hook(enter).remove)
        hooks.callback(module.register_forward_hook(leave, always_call=True).remove)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _SDPA:
            return self._attention(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            return self._multihead(*args, **kwargs)
        result = func(*args, **kwargs)
        if self._softmaxes is not None:
            self._softmaxes.look(func, args, kwargs, result, self._module)
        return result

    @property
    def _module(self) -> tuple[str, str]:
        return self._stack[-1] if self._stack else ("", "")

    def _multihead(self, *args: Any, **kwargs: Any) -> Any:
        """`torch.nn.functional.multi_head_attention_forward`, through the operator that can be watched.

        It computes weights that are asked for by hand; they are computed here beside it, without their dropout.
        """
        given = _MHA.bind(*args, **kwargs)
        given.apply_defaults()
        asked = given.arguments["need_weights"]
        seen: list[AttentionCall] = []

        def attention(*args: Any, **kwargs: Any) -> Tensor:
            with mock.patch.object(functional, "scaled_dot_product_attention", _SDPA):
                return self._attention(*args, **kwargs, seen=seen)

        if asked and given.arguments["attn_mask"] is not None:
            # With weights the mask counts, without them this hint.
            given.arguments["is_causal"] = False
        given.arguments["need_weights"] = False
        with mock.patch.object(functional, "scaled_dot_product_attention", attention):
            output, _ = functional.multi_head_attention_forward(*given.args, **given.kwargs)
        if not seen:
            name, kind = self._module
            why = "this version of torch does not compute it by scaled_dot_product_attention"
            self.unseen.append(Unseen(name or MODEL, kind, place(), why))
        if not asked:
            return output, None
        weights = torch.cat(
            [
                softmax_weights(call.q, call.k, mask=call.mask, causal=call.causal, scale=call.scale)
                for call in seen
            ]
        )
        if given.arguments["average_attn_weights"]:
            weights = weights.mean(1)
        return output, weights if given.arguments["query"].dim() == 3 else weights[0]

    def _attention(self, *args: Any, seen: list[AttentionCall] | None = None, **kwargs: Any) -> Tensor:
        """`torch.nn.functional.scaled_dot_product_attention`, handed on."""
        given = dict(zip(_NAMES, args, strict=False)) | kwargs
        q, k, v = given["query"], given["key"], given["value"]
        name, kind = self._module
        if q.is_nested or k.is_nested or v.is_nested:
            why = "its sequences are a nested tensor; pass them padded, with a mask"
            self.unseen.append(Unseen(name or MODEL, kind, place(), why))
            return _SDPA(*args, **kwargs)
        leads = _leads(q, k, v, bool(given.get("enable_gqa", False)))
        scale = given.get("scale")
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        mask = given.get("attn_mask")
        mask, causal = plain_mask(
            None if mask is None else _mask(mask, leads[0]),
            bool(given.get("is_causal", False)),
            q.shape[-2],
            k.shape[-2],
            q.device,
        )
        call = AttentionCall(
            site=f"{name or MODEL}#{count}" if count else name or MODEL,
            module=name,
            kind=kind,
            call=count,
            place=place(),
            q=_four(q, leads[0]),
            k=_four(k, leads[1]),
            v=_four(v, leads[2]),
            mask=mask,
            causal=causal,
            scale=1 / math.sqrt(q.shape[-1]) if scale is None else float(scale),
            dropout=float(given.get("dropout_p", 0.0)),
            compute=lambda: _four(_SDPA(*args, **kwargs), leads[0]),
        )
        if seen is not None:
            seen.append(call)
        return self._take(call).reshape(*leads[0], q.shape[-2], v.shape[-1])


def _leads(q: Tensor, k: Tensor, v: Tensor, grouped: bool) -> tuple[tuple[int, ...], ...]:
    """What stands before length and head size of queries, keys and values, broadcast as torch does."""
    if grouped:
        batch = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
        return tuple((*batch, tensor.shape[-3]) for tensor in (q, k, v))
    return (tuple(torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])),) * 3


def _four(tensor: Tensor, lead: tuple[int, ...]) -> Tensor:
    """``(*lead, n, d)`` as ``(batch, heads, n, d)``; without heads there is one."""
    tensor = tensor.expand(*lead, *tensor.shape[-2:])
    heads = lead[-1] if len(lead) > 1 else 1
    return tensor.reshape(math.prod(lead) // heads if heads else 0, heads, *tensor.shape[-2:])


def _mask(mask: Tensor, lead: tuple[int, ...]) -> Tensor:
    """A mask in 4 dimensions, no larger than it came where that can be."""
    while mask.dim() < 2 + len(lead):
        mask = mask.unsqueeze(0)
    if len(lead) > 2 and any(size > 1 for size in mask.shape[:-3]):
        return _four(mask, (*lead[:-1], mask.shape[-3]))
    heads = mask.shape[-3] if len(lead) > 1 else 1
    return mask.reshape(-1, heads, *mask.shape[-2:])
