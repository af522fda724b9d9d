"""A bound of the Jacobian of a part of a forward pass, from the bounds of its operations.

The rules of each operation, with their references, are in the modules that `layerlab.gradflow.bounds.gains` puts
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from layerlab.gradflow.bounds.arguments import Scope
from layerlab.gradflow.bounds.gains import Gain
from layerlab.gradflow.flow import Flow, ModuleCall, Operation

_SCOPES: tuple[Scope, ...] = ("any input", "these inputs", "unknown")
_NAMED = 3  # operations named in a reason


@dataclass(frozen=True)
class Bound:
    """An upper bound of ‖J‖₂.

    Attributes:
        value: infinite where an operation has no rule.
        scope: "any input": also a Lipschitz constant; "these inputs": of the Jacobian at the inputs of this pass;
            "unknown".
        reason: what it is made of, in words.
    """

    value: float
    scope: Scope
    reason: str


@dataclass(frozen=True)
class _Reach:
    """What is known of a value: its bound, and the operations that amplified on the way."""

    bound: float
    scope: Scope
    factors: tuple[tuple[str, float], ...]


def noted(operation: Operation) -> Gain:
    """The gain that `layerlab.gradflow.bounds.gains.gain` left as the note of an operation."""
    gain: Gain = operation.note
    return gain


def bound(
    operations: Sequence[Operation],
    start: int,
    gain_of: Callable[[Operation], Gain] = noted,
    stop: int | None = None,
) -> Bound:
    """Bounds the Jacobian of the last value made by ``operations`` with respect to the value ``start``.

    With B(start) = 1, an operation y = f(x_1 ... x_k) with ‖∂f/∂x_i‖ ≤ L_i has B(y) = Σ L_i B(x_i), or (Σ (L_i
    B(x_i))²)^½ where the arguments go to different entries of y. Over a chain that is the product of the factors,
    over a residual connection 1 + s, over a concatenated skip √(1 + s²). Values that do not depend on ``start``
    count as constants.

    Args:
        operations: in order, as of `Flow.between`.
        start: number of the value; a bottleneck.
        gain_of: the gain of an operation.
        stop: number of the value that is bounded; by default the last one made.

    >>> import torch
    >>> from layerlab.gradflow.evaluation import Call
    >>> from layerlab.gradflow.flow import record
    >>> from layerlab.gradflow.bounds.gains import gain
    >>> flow = record(Call.of(lambda x: x + torch.sigmoid(x), torch.ones(3), None, None, 0), gain)
    >>> bound(flow.operations, flow.source)
    Bound(value=1.25, scope='any input', reason='residual: 1 + s, s = 0.25')
    """
    known = {start: _Reach(1.0, "any input", ())}
    reason = "identity"
    last = start
    for operation in operations:
        read = [known.get(value) for value in operation.reads]
        if not any(read):
            continue
        gain = gain_of(operation)
        factors = gain.factors()
        known[operation.writes] = _combined(operation, gain, factors, read)
        last = operation.writes
        if stop is None or last == stop:
            reason = _reason(operation, gain, factors, read, known[last])
    reach = known.get(last if stop is None else stop, _Reach(0.0, "any input", ()))
    if math.isnan(reach.bound):
        reach = _Reach(math.inf, reach.scope, reach.factors)
    return Bound(reach.bound, reach.scope, reason if reach.bound > 0 else "does not depend on it")


def module_bound(flow: Flow, call: ModuleCall, gain_of: Callable[[Operation], Gain] = noted) -> Bound | None:
    """Bounds the Jacobian of one call of a module: of what leaves it by what enters it.

    Other arguments of the call, and what it finds in other places, count as constants.

    Args:
        flow: of the pass.
        call: one of ``flow.calls``.
        gain_of: the gain of an operation.

    Returns:
        None where no value enters or leaves, or neither depends on the input.
    """
    if call.enters is None or call.leaves is None:
        return None
    inside = [operation for operation in flow.operations if call.first < operation.writes <= call.last]
    if call.leaves != call.enters and not any(o.writes == call.leaves for o in inside):
        return None
    return bound(inside, call.enters, gain_of, stop=call.leaves)


def _combined(
    operation: Operation, gain: Gain, factors: Sequence[float], read: Sequence[_Reach | None]
) -> _Reach:
    # Parts of one value that do not overlap: by Cauchy and Schwarz their sum is bounded by the root of squares, and
    # what they make in different entries by the largest.
    shares: dict[int, list[float]] = {}
    bounds: dict[int, float] = {}
    trails: list[tuple[tuple[str, float], ...]] = []
    scope: Scope = gain.scope
    for value, factor, reach in zip(operation.reads, factors, read, strict=True):
        if reach is None:
            continue
        scope = max(scope, reach.scope, key=_SCOPES.index)
        if reach.bound == 0 or factor == 0:
            continue
        shares.setdefault(value, []).append(factor)
        bounds[value] = reach.bound
        trails.append(reach.factors)
    if gain.combine == "sum":
        total = sum(
            (math.hypot(*each) if gain.apart else sum(each)) * bounds[v] for v, each in shares.items()
        )
    else:
        total = math.hypot(
            *((max(each) if gain.apart else math.hypot(*each)) * bounds[v] for v, each in shares.items())
        )
    longest = max(trails, key=len, default=())
    largest = max((f for each in shares.values() for f in each), default=0.0)
    return _Reach(float(total), scope, (*longest, (gain.reason, largest)))


def _reason(
    operation: Operation, gain: Gain, factors: Sequence[float], read: Sequence[_Reach | None], reach: _Reach
) -> str:
    if reach.scope == "unknown":
        return next((text for text, factor in reach.factors if math.isinf(factor)), gain.reason)
    parts = [
        (factor * found.bound, found)
        for factor, found in zip(factors, read, strict=True)
        if found is not None
    ]
    if len(parts) == 2:
        skips = [i for i, (_, found) in enumerate(parts) if not found.factors]
        if len(skips) == 1 and parts[skips[0]][0] == 1.0:
            s = parts[1 - skips[0]][0]
            if gain.combine == "sum" and gain.reason == "addition":
                return f"residual: 1 + s, s = {s:.3g}"
            if gain.combine == "rss":
                return f"skip by concatenation: √(1 + s²), s = {s:.3g}"
    if len(reach.factors) == 1:
        return gain.reason
    # A factor of 1 explains nothing.
    told = [(text, factor) for text, factor in reach.factors if factor != 1.0] or list(reach.factors)
    told.sort(key=lambda pair: -abs(math.log(pair[1])) if pair[1] > 0 else -math.inf)
    named = [f"{text} ({factor:.3g})" for text, factor in told[:_NAMED]]
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return "; ".join(named) + more
