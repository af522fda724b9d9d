"""The least that a step must do, and how long this machine takes for that much.

What is counted is one step of the model on its operators (a receptive field or the whole graph) with every array
that crosses a layer read or written once: features, weights, hidden numbers, their gradients, the operator and its
transpose, Adam's two moments. Nothing is counted twice because a cache was too small, and nothing that a kernel could
recompute. So it is a bound from below for any implementation with these layers, not what ours moves.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from bench_common import rates

NUMBER, INDEX = 4, 4


@dataclass
class Work:
    """Bytes moved, floating-point operations (a multiply-add is two), random numbers drawn, exponentials."""

    bytes: int = 0
    operations: int = 0
    random_numbers: int = 0
    exponentials: int = 0
    gathered_bytes: int = 0


@dataclass(frozen=True)
class LayerShape:
    """One layer's sizes: an operator ``rows x columns`` with ``entries``, from ``inputs`` to ``heads * outputs``."""

    rows: int
    columns: int
    entries: int
    inputs: int
    outputs: int
    heads: int = 1
    stored: int | None = None
    """Stored features, when the layer reads sparse ones."""


def count(layers: list[LayerShape], kind: str) -> Work:
    """What one training step of a GCN or GAT with dropout before every layer must do.

    >>> count([LayerShape(2, 2, 4, 3, 5)], "gcn").operations  # 2 (features, twice) * 2*2*3*5 + 2 (edges) * 2*4*5
    200
    """
    work = Work()
    for position, layer in enumerate(layers):
        width = layer.heads * layer.outputs
        z, out = layer.columns * width, layer.rows * width
        read = layer.columns * layer.inputs if layer.stored is None else layer.stored
        features = read * (NUMBER if layer.stored is None else NUMBER + INDEX)
        weights = width * (layer.inputs + 1) + (2 * width if kind == "gat" else 0)
        pattern = layer.entries * (INDEX + (NUMBER if kind == "gcn" else 0)) + layer.rows * INDEX
        # Forward: features and weights in, z out and in again, the operator in, the result out. Backward: the
        # result's gradient and the operator in, z's gradient out and in, the features in again.
        work.bytes += 2 * (features + pattern + NUMBER * (2 * z + out))
        # Weights, gradient and two moments in; weights and moments out.
        work.bytes += 7 * weights * NUMBER
        products = 2 * read * width
        work.operations += 2 * products + 2 * (2 * layer.entries * width)
        if position:
            # The gradient of what the layer reads, and what the activation's gradient needs of it.
            work.bytes += 2 * read * NUMBER
            work.operations += products
        work.random_numbers += read
        work.gathered_bytes += 2 * layer.entries * width * NUMBER
        if kind == "gat":
            # z again in the backward, for the coefficients' gradients; scores of both ends, forward and backward.
            work.bytes += NUMBER * z
            work.operations += 2 * layer.entries * width + 4 * 2 * z
            work.random_numbers += layer.entries * layer.heads
            work.exponentials += layer.entries * layer.heads
            work.gathered_bytes += layer.entries * width * NUMBER
    return work


def floor(work: Work, launches: float, empty_seconds: float) -> dict[str, Any]:
    """The time that ``work`` takes at this machine's measured rates, beside the counts.

    ``max(bytes / bandwidth, operations / arithmetic) + empty step``: memory and arithmetic can overlap, Python and
    launches do not overlap with them. Random numbers and exponentials are counted but not timed.
    """
    speed, rate = rates.bandwidth(work.bytes), rates.arithmetic()
    memory, computing = work.bytes / speed, work.operations / rate
    return {
        **asdict(work),
        "launches": launches,
        "bytes_per_second": speed,
        "operations_per_second": rate,
        "memory_seconds": memory,
        "arithmetic_seconds": computing,
        "launch_seconds": empty_seconds,
        "seconds": max(memory, computing) + empty_seconds,
    }


def gathering(columns: int, col: torch.Tensor, crow: torch.Tensor, width: int) -> float:
    """Seconds that torch's ``embedding_bag`` takes to add up the rows of a ``(columns, width)`` table that a pattern
    names: the gathers of one aggregation without weights, in the pattern's random order.
    """
    table = torch.ones(columns, width)
    offsets, names = crow.to(col.dtype), col
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        torch.nn.functional.embedding_bag(names, table, offsets, mode="sum", include_last_offset=True)
        best = min(best, time.perf_counter() - started)
    return best
