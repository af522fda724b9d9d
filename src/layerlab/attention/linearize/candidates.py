"""Which attentions of a model can be made linear here, and by what: the reasons, the speeds, the mechanisms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerlab.attention.calls import AttentionCall
from layerlab.attention.crossover import Crossover, Setting, crossover
from layerlab.attention.linearize.plain import LinearAttention
from layerlab.attention.mechanisms import Linear, Mechanism, mechanism
from layerlab.errors import UserError

MAPS = {"linear": "elu", "linear-relu": "relu", "linear-random": "random", "hedgehog": "hedgehog"}
"""Mechanisms that can be written down in plain torch, and their feature maps."""

# Seconds for timing one mechanism in one setting.
_SECONDS = 2.0


def checked(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        UserError: none, or one that is not among `MAPS`.

    >>> checked(["linear", "linear"])
    ('linear',)
    """
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in MAPS:
            raise UserError(f"expected a mechanism of {', '.join(MAPS)}, got {name!r}")
    if not found:
        raise UserError(f"expected at least one mechanism of {', '.join(MAPS)}")
    return found


def obstacle(call: AttentionCall, calls: Sequence[AttentionCall], model: nn.Module) -> str | None:
    """Why the attention of a call cannot be exchanged by the code that is written; None if it can."""
    if Counter(other.module for other in calls)[call.module] > 1:
        return "its module computes attention more than once in a pass; only modules that do so once are exchanged"
    inner = f"{call.module}." if call.module else ""
    if any(other.module != call.module and other.module.startswith(inner) for other in calls):
        return "a module inside its module computes attention too, and could not be told from it"
    module = model.get_submodule(call.module)
    if isinstance(module, nn.MultiheadAttention) and (module.bias_k is not None or module.add_zero_attn):
        return "its MultiheadAttention adds a key of its own (add_bias_kv or add_zero_attn)"
    return Linear().supports(causal=call.causal, mask=call.mask, n=call.q.shape[2], m=call.k.shape[2])


@dataclass(frozen=True)
class Speed:
    """How fast a mechanism is at a site on this machine.

    Attributes:
        mechanism: its name.
        ratio: time of softmax attention over that of the mechanism, at the site's length; None beyond what was timed.
        crossover: the length from which it is faster; None where it is not, up to the longest that was timed.
        longest: that was timed.
    """

    mechanism: str
    ratio: float | None
    crossover: int | None
    longest: int

    def pays(self, length: int) -> bool:
        """Whether it is faster at a length."""
        return self.crossover is not None and length >= self.crossover


class Plain(Mechanism):
    """Linear attention as the code computes it that is written: plain torch."""

    def __init__(self, name: str, linear: LinearAttention) -> None:
        super().__init__()
        self.name = name
        self.linear = linear

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        """The output of bidirectional or causal attention without a mask."""
        output: Tensor = self.linear(q, k, v, None, given.get("causal", False), 1 / math.sqrt(q.shape[-1]))
        return output


def sizes(call: AttentionCall, name: str) -> dict[str, Any]:
    """What `layerlab.attention.linearize.plain.LinearAttention` is made with for a call."""
    size = call.q.shape[-1]
    return {
        "phi": MAPS[name],
        "heads": call.heads,
        "kv_heads": call.k.shape[1],
        "head_size": size,
        "features": 2 * size,
    }


class Clock:
    """Crossovers, each setting timed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Setting, int], Crossover] = {}

    def speed(self, name: str, call: AttentionCall) -> Speed:
        """Of a mechanism at a call."""
        setting, length = Setting.of(call), call.length
        key = (name, setting, length)
        if key not in self._known:
            linear = LinearAttention(**sizes(call, name)).to(call.q.dtype)
            plain = Plain(name, linear).requires_grad_(False)
            self._known[key] = crossover(lambda n: plain, setting, own=(length,), seconds=_SECONDS)
        found = self._known[key]
        return Speed(name, found.speed(length), found.length, max(found.lengths, default=0))


def made(name: str, call: AttentionCall, seed: int) -> Linear:
    """The mechanism of a name for a call, in the call's dtype, without gradients."""
    found = mechanism(name, heads=call.heads, head_size=call.q.shape[-1], kv_heads=call.k.shape[1], seed=seed)
    assert isinstance(found, Linear)
    return found.to(call.q.dtype).requires_grad_(False)
