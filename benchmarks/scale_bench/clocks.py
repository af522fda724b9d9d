"""Paired timings by two clocks: the wall, and seconds of processor, which others on the machine lengthen less."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping


def once(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of one call by both clocks."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }


def in_turn(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Call the steps in turn, A B C A B C ..., once before that to warm up.

    Returns:
        ``{name: {"wall": [seconds], "processor": [seconds]}}``, one number a round.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": []} for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            gc.collect()
            taken = once(step)
            found[name]["wall"].append(taken["wall_seconds"])
            found[name]["processor"].append(taken["processor_seconds"])
    return found
