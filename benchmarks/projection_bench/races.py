"""Coherence of many vectors against matrix products of the same blocks, timed in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_common import timing
from torch import Tensor

from layerlab.lab.kernels import threads
from layerlab.projection import certificate, pairs
from layerlab.projection.kernels.pairs_cpu import sign_pairs
from layerlab.projection.packing import pack

SIGNS, REAL, PLAIN, WHOLE = (
    "certify, signs",
    "certify, real",
    "certify, real, no histogram",
    "whole product, maximum after",
)
PRODUCTS, SQUARE = "torch.mm of the same blocks", "torch.mm, one block of 2,048"


def certify(count: int, dim: int, rounds: int) -> dict[str, Any]:
    """Certificates of random signs and of normal vectors.

    A share is the operations of the half that is needed, count (count - 1) / 2 products of 2 dim operations, over the
    seconds of a certificate, divided by the operations a second of torch.mm on the blocks that certificates are made
    of (whose own surplus, beside the diagonal, is counted to torch.mm's credit).
    """
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(count, dim, generator=generator)
    signs = torch.randint(0, 2, (count, dim), generator=generator) * 2.0 - 1
    cover = list(pairs.blocks(0, count))
    side = min(count, pairs.LARGEST)
    store = torch.empty(side, side)

    def products() -> None:
        for row, last_row, column, last_column in cover:
            shape = (last_row - row, last_column - column)
            block = store.view(-1)[: shape[0] * shape[1]].view(shape)
            torch.mm(real[row:last_row], real[column:last_column].T, out=block)

    steps: dict[str, Callable[[], object]] = {
        SIGNS: lambda: certificate.certify(signs),
        REAL: lambda: certificate.certify(real),
        PLAIN: lambda: certificate.certify(real, bins=0),
        WHOLE: lambda: whole(real),
        PRODUCTS: products,
        SQUARE: lambda: torch.mm(real[:side], real[-side:].T, out=store),
    }
    timed = timing.in_turn(steps, rounds)
    seconds = timed["seconds"]
    half = count * (count - 1) * dim
    made = sum(2 * (b - a) * (d - c) * dim for a, b, c, d in cover)
    rows = {}
    for name in (SIGNS, REAL, PLAIN, WHOLE):
        times = timing.ratio(seconds[PRODUCTS], seconds[name])
        square = timing.ratio(seconds[SQUARE], seconds[name])
        rows[name] = {
            "median_seconds": statistics.median(seconds[name]),
            "rate": half / statistics.median(seconds[name]),
            "share": {key: value * half / made for key, value in times.items()},
            "share_of_square": {key: value * half / (2 * side * side * dim) for key, value in square.items()},
        }
    found = certificate.certify(real), certificate.certify(signs)
    return {
        "count": count,
        "dim": dim,
        "blocks": len(cover),
        "half_operations": half,
        "block_operations": made,
        "block_rate": made / statistics.median(seconds[PRODUCTS]),
        "square": side,
        "square_rate": 2 * side * side * dim / statistics.median(seconds[SQUARE]),
        "rows": rows,
        "certificates": [
            {"coherence": c.coherence, "error": c.error, "exact": c.exact, "arithmetic": c.arithmetic}
            for c in found
        ],
        **timed,
    }


def whole(vectors: Tensor) -> float:
    """What one writes without this: unit vectors, the whole matrix of products, its maximum beside the diagonal."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    gram = (unit @ unit.T).abs_()
    gram.fill_diagonal_(0)
    return float(gram.max())


def ways(side: int, dim: int, rounds: int) -> dict[str, Any]:
    """The products of two blocks of signs, exactly, and the histogram and nearest pairs where the way has them."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (2 * side, dim), generator=generator) * 2 - 1
    single, bytes_, double = signs.float(), signs.to(torch.int8), signs.double()
    packed = pack((signs < 0).numpy())
    tiles = np.array([(r, r + side // 4, side, 2 * side) for r in range(0, side, side // 4)])

    def popcount() -> np.ndarray[Any, Any]:
        parts = torch.get_num_threads()
        counts = np.zeros((parts, 4, dim + 1), np.int64)
        kept = np.zeros((parts, 10)), np.zeros((parts, 10, 2), np.int64), np.zeros(parts, np.int64)
        threads.run(sign_pairs, (packed, dim, tiles, counts, *kept), list(range(parts + 1)))
        return counts

    steps: dict[str, Callable[[], object]] = {
        "packed bits, with histogram and nearest pairs": popcount,
        "float32 products": lambda: single[:side] @ single[side:].T,
        "float64 products": lambda: double[:side] @ double[side:].T,
        "int8 products": lambda: torch._int_mm(bytes_[:side], bytes_[side:].T),
    }
    expected = signs[:side] @ signs[side:].T
    for name, step in list(steps.items())[1:]:
        found = step()
        assert isinstance(found, Tensor), name
        assert torch.equal(found.long(), expected), name
    distances = torch.bincount(((dim - expected) // 2).flatten(), minlength=dim + 1)
    assert popcount().sum(axis=(0, 1)).tolist() == distances.tolist()
    timed = timing.in_turn(steps, rounds)
    rows = {
        name: {
            "nanoseconds": 1e9 * statistics.median(values) / side**2,
            "times_float32": timing.ratio(timed["seconds"]["float32 products"], values),
        }
        for name, values in timed["seconds"].items()
    }
    return {"side": side, "dim": dim, "rows": rows, **timed}
