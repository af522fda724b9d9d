"""A process of its own: one whole profile, its seconds part by part, its vector products and its peak memory.

Usage: python -m gradflow_bench.worker '{"task": "whole", "model": "encoder", ...}'; prints one line of JSON.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from bench_common.memory import Peak
from bench_common.workers import answer
from torch.utils.flop_counter import FlopCounterMode

from gradflow_bench.models import Size, subject
from layerlab.gradflow import gradients, measurement, profiling


class Clock:
    """Adds up the seconds spent in functions that it wraps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def wrap(self, owner: Any, name: str, label: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)
        self.seconds[label], self.calls[label] = 0.0, 0

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[label] += time.perf_counter() - started
                self.calls[label] += 1

        setattr(owner, name, timed)


def whole(model: str, size: dict[str, int], threads: int, forwards: int) -> dict[str, Any]:
    """Profiles one model. Idle means: everything imported, the model and its input there, a tiny model profiled."""
    torch.set_num_threads(threads)
    profiling.profile(*subject(model, Size(1, 16, 2, 4)))
    net, x = subject(model, Size(**size))
    forward = _forward(net, x, forwards)
    clock, factors = Clock(), _Factors()
    clock.wrap(profiling, "opened", "opening")
    clock.wrap(profiling, "gradient_layers", "gradients")
    clock.wrap(profiling, "step_ends", "layers")
    clock.wrap(profiling, "bound", "bounds of weights")
    clock.wrap(gradients, "gain", "bounds of attention")
    factors.watch()
    memory = Peak()
    started, busy = time.perf_counter(), time.process_time()
    found = profiling.profile(net, x)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = memory.found()
    parts = dict(clock.seconds)
    parts["opening"] -= parts["bounds of attention"]
    parts["products over depth"] = seconds - sum(parts.values())
    forward += _forward(net, x, forwards)
    products, in_products = factors.counts(), dict(factors.seconds)
    weights = factors.equivalents(net, x)
    return {
        "seconds": seconds,
        "processor_seconds": busy,
        "parts": parts,
        "forward_seconds": forward,
        "forward_median": statistics.median(forward),
        "products": products,
        "product_seconds": in_products,
        **weights,
        **peak,
        "verdict": found.verdict.kind,
        "steps": len(found.layers),
        "largest_error": max(float(layer.jacobian.largest_error.max()) for layer in found.layers),
        "largest_product_error": max(float(layer.product.largest_error.max()) for layer in found.layers),
    }


def _forward(net: torch.nn.Module, x: torch.Tensor, count: int) -> list[float]:
    seconds = []
    with torch.no_grad():
        net(x)
        for _ in range(count):
            started = time.perf_counter()
            net(x)
            seconds.append(time.perf_counter() - started)
    return seconds


class _Factors:
    """Counts and times the products with each step's Jacobian."""

    def __init__(self) -> None:
        self.seconds = {"product": 0.0, "transposed": 0.0}
        self.steps: list[tuple[Any, dict[str, int]]] = []

    def watch(self) -> None:
        inner = measurement._operator

        def made(*args: Any) -> Any:
            operator = inner(*args)
            count = {"product": 0, "transposed": 0}
            self.steps.append((operator, count))
            for kind, name in (("product", "product"), ("transposed", "transposed_product")):
                setattr(operator, name, self._counted(getattr(operator, name), kind, count))
            return operator

        measurement._operator = made

    def _counted(
        self, product: Callable[[Any], Any], kind: str, count: dict[str, int]
    ) -> Callable[[Any], Any]:
        def counted(vectors: Any) -> Any:
            started = time.perf_counter()
            result = product(vectors)
            self.seconds[kind] += time.perf_counter() - started
            count[kind] += 1
            return result

        return counted

    def counts(self) -> dict[str, int]:
        return {kind: sum(count[kind] for _, count in self.steps) for kind in ("product", "transposed")}

    def equivalents(self, net: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
        """The multiply-adds of all products that were taken, and of one forward pass, as torch counts them."""
        counts = [dict(count) for _, count in self.steps]
        total = 0.0
        for (operator, _), count in zip(self.steps, counts, strict=True):
            shapes = {"product": operator.columns, "transposed": operator.rows}
            products = {"product": operator.product, "transposed": operator.transposed_product}
            for kind, size in shapes.items():
                with FlopCounterMode(display=False) as counter:
                    products[kind](torch.ones(operator.samples, size, dtype=operator.dtype))
                total += counter.get_total_flops() * count[kind]
        # With a record: without one torch takes a fused path, whose operations it does not count.
        with FlopCounterMode(display=False) as counter:
            net(x)
        forward = counter.get_total_flops()
        return {"product_operations": total, "forward_operations": forward, "forwards_floor": total / forward}


if __name__ == "__main__":
    answer({"whole": whole})
