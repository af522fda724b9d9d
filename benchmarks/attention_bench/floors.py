"""The least that each piece of work must do, and how long this machine takes for that much.

Counted are arrays that are read and written once, multiply-adds of the linear form (two operations each) and the
exponentials of elu + 1 where its argument is negative, half of the time. Nothing is counted for the triangle inside a
chunk, which a causal kernel has on top. Memory overlaps with computing; exponentials and products share the units.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from bench_common import rates

from attention_bench.contestants import HEADS, SIZE

NUMBER = 4


@dataclass(frozen=True)
class Work:
    """Bytes moved, floating-point operations, exponentials."""

    bytes: int
    operations: int
    exponentials: int


def forward(n: int) -> Work:
    """q, k, v in, the result out; the sums of phi(k) v^T, and the product of phi(q) with them.

    >>> forward(2).bytes == 4 * 4 * 2 * 512, forward(2).operations == 2 * 2 * 2 * 8 * 64 * 65
    (True, True)
    """
    numbers = HEADS * n * SIZE
    return Work(4 * numbers * NUMBER, 4 * numbers * (SIZE + 1), numbers)


def training(n: int) -> Work:
    """Forward, then q, k, v and the result's gradient in, three gradients out; four more products."""
    numbers = HEADS * n * SIZE
    return Work(11 * numbers * NUMBER, 12 * numbers * (SIZE + 1), numbers)


def softmax(n: int, causal: bool = False) -> Work:
    """Forward: q k^T, the exponential of each score, and the product with v.

    >>> softmax(2).operations == 2 * 2 * 8 * 2 * 2 * 64
    True
    """
    pairs = HEADS * (n * (n + 1) // 2 if causal else n * n)
    return Work(4 * HEADS * n * SIZE * NUMBER, 4 * pairs * SIZE, pairs)


def softmax_training(n: int, causal: bool = False) -> Work:
    """Forward, and five products and the exponentials again in the backward pass, which does not keep the weights."""
    once = softmax(n, causal)
    return Work(11 * HEADS * n * SIZE * NUMBER, 7 * once.operations // 2, 2 * once.exponentials)


def token() -> Work:
    """The two sums, in float64, in and out."""
    numbers = HEADS * SIZE * (SIZE + 1)
    return Work(2 * 8 * numbers, 4 * numbers, HEADS * SIZE)


def cached_token(n: int) -> Work:
    """Softmax over a cache: keys and values in."""
    return Work(2 * HEADS * n * SIZE * NUMBER, 4 * HEADS * n * SIZE, HEADS * n)


@dataclass(frozen=True)
class Rates:
    """Operations and exponentials a second of this machine, measured now; bandwidth depends on the footprint."""

    operations: float = field(default_factory=rates.arithmetic)
    exponentials: float = field(default_factory=rates.exponentials)


def floor(work: Work, speed: Rates) -> dict[str, Any]:
    """The time for ``work`` at this machine's rates: the larger of memory and of products plus exponentials."""
    bandwidth = rates.bandwidth(work.bytes)
    memory = work.bytes / bandwidth
    computing, exponential = work.operations / speed.operations, work.exponentials / speed.exponentials
    return {
        **asdict(work),
        "bytes_per_second": bandwidth,
        "operations_per_second": speed.operations,
        "exponentials_per_second": speed.exponentials,
        "memory_seconds": memory,
        "arithmetic_seconds": computing,
        "exponential_seconds": exponential,
        "seconds": max(memory, computing + exponential),
    }


def at_best_rates(parts: dict[str, Any]) -> dict[str, Any]:
    """Stored parts with every floor at the best rates that were measured in any of them.

    A rate taken while the machine was busy with something else would make a floor higher than what was reached.
    """
    found = list(_floors(parts))
    best = {
        name: max((floor[name] for floor in found), default=0.0)
        for name in ("operations_per_second", "exponentials_per_second")
    }
    copy = deepcopy(parts)
    for floor in _floors(copy):
        floor |= best
        floor["arithmetic_seconds"] = floor["operations"] / best["operations_per_second"]
        floor["exponential_seconds"] = floor["exponentials"] / best["exponentials_per_second"]
        floor["seconds"] = max(
            floor["memory_seconds"], floor["arithmetic_seconds"] + floor["exponential_seconds"]
        )
    return copy


def _floors(stored: Any) -> Iterator[dict[str, Any]]:
    if isinstance(stored, dict):
        if "arithmetic_seconds" in stored:
            yield stored
        for value in stored.values():
            yield from _floors(value)
    elif isinstance(stored, list):
        for value in stored:
            yield from _floors(value)
