"""How fast this machine is at the simplest work: what floors are made of."""

from __future__ import annotations

import time

import torch

NUMBER = 4  # bytes


def bandwidth(footprint: float) -> float:
    """Bytes a second of ``c = a + b`` over three arrays of ``footprint`` bytes together, the best of many.

    A footprint that fits in a cache is read from the cache, as the step's own arrays would be.
    """
    length = max(1024, int(footprint / NUMBER / 3))
    a, b, c = (torch.ones(length) for _ in range(3))
    best, until = float("inf"), time.perf_counter() + 0.15
    while time.perf_counter() < until:
        started = time.perf_counter()
        torch.add(a, b, out=c)
        best = min(best, time.perf_counter() - started)
    return 3 * length * NUMBER / best


def arithmetic() -> float:
    """Floating-point operations a second of a product of 1,024 x 1,024 float32 matrices, the best of many."""
    a, b = torch.ones(1024, 1024), torch.ones(1024, 1024)
    c, best = torch.empty(1024, 1024), float("inf")
    for _ in range(10):
        started = time.perf_counter()
        torch.mm(a, b, out=c)
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best


def exponentials() -> float:
    """Exponentials a second of ``torch.exp`` on 2^17 float32 numbers, the best of many."""
    x = torch.linspace(-4, 0, 1 << 17)
    y, best = torch.empty_like(x), float("inf")
    for _ in range(100):
        started = time.perf_counter()
        torch.exp(x, out=y)
        best = min(best, time.perf_counter() - started)
    return x.numel() / best
