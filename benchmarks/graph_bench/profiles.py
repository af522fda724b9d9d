"""Where a step's time goes: every torch operator counted and timed as it is dispatched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graph_bench import timing


class OperatorClock(TorchDispatchMode):
    """Counts operators below autograd, forward, backward and optimizer alike, and adds up the seconds inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds[str(func._schema.name)] += time.perf_counter() - started  # type: ignore[assignment]
        self.calls[str(func._schema.name)] += 1
        return result


def dispatched(step: Callable[[], object]) -> int:
    """How many operators one step runs."""
    with OperatorClock() as clock:
        step()
    return clock.calls.total()


def profile(step: Callable[[], object], steps: int) -> dict[str, Any]:
    """Seconds a step spends in each operator, and between them.

    The operators are timed in steps with a clock at each of them, the whole step without; the difference, what passes
    between operators, is Python, autograd and dispatch. Where the clock itself makes the operators look longer than
    the step, it is 0.

    Returns:
        ``{"seconds", "calls", "operators": [{"name", "calls", "seconds"}], "between"}``, the largest first.
    """
    step()
    whole = sorted(timing.block(step, steps) for _ in range(3))[1]
    with OperatorClock() as clock:
        for _ in range(steps):
            step()
    rows = [
        {"name": name, "calls": clock.calls[name] / steps, "seconds": seconds / steps}
        for name, seconds in clock.seconds.most_common()
    ]
    inside = sum(row["seconds"] for row in rows)
    return {
        "seconds": whole,
        "calls": clock.calls.total() / steps,
        "operators": rows,
        "between": max(0.0, whole - inside),
    }


def empty(operators: int) -> Callable[[], None]:
    """A training step that computes nothing, with about as many operators.

    A chain of products of one-element tensors, forward and backward, and one fused Adam step over eight parameters, as
    many as two layers have.
    """
    one = torch.ones(1)
    parameters = [torch.ones(1, requires_grad=True) for _ in range(8)]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step(length: int) -> None:
        optimizer.zero_grad()
        x = parameters[0] * parameters[1]
        for parameter in parameters[2:]:
            x = x * parameter
        for _ in range(length):
            x = x * one
        x.backward()
        optimizer.step()

    step(0)
    fixed, longer = dispatched(lambda: step(0)), dispatched(lambda: step(10))
    length = max(0, round((operators - fixed) / ((longer - fixed) / 10)))
    return lambda: step(length)


def empty_step(operators: int) -> float:
    """Seconds of an `empty` step: what Python, autograd and dispatch take at torch's best. The least of five means."""
    step = empty(operators)
    for _ in range(20):
        step()
    return min(timing.block(step, 50) for _ in range(5))
