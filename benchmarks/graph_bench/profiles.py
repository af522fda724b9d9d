"""Where a step's time goes: our kernels and torch's operators, each timed where the step runs it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from bench_common import timing
from torch import Tensor

from layerlab.graph.kernels import operators
from layerlab.lab import optimizing
from layerlab.lab.kernels import threads

KERNEL, VIEWS = "kernel ", "views of tensors"
# Operators that give the same numbers another form. They take time, so they are in the profile, but a step could do
# without them, so they are not among its launches.
_FORMS = frozenset(
    f"aten::{name}"
    for name in (
        *("alias", "as_strided", "detach", "expand", "item", "lift_fresh", "numpy_T", "permute", "reshape"),
        *(
            "resolve_conj",
            "resolve_neg",
            "select",
            "slice",
            "squeeze",
            "t",
            "to",
            "transpose",
            "unsqueeze",
            "view",
        ),
    )
)


class Clock:
    """Counts kernels and operators, and adds up the seconds inside them.

    Kernels are timed where rows are dealt to threads, torch's operators by torch's own profiler: neither is a mode of
    the dispatcher, which would lead a model to its slower path, layer by layer. An operator that another one calls
    belongs to that one.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        self.calls[name] += 1
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def launches(self) -> tuple[int, int]:
        """Kernels, and operators that compute something."""
        ours = sum(count for name, count in self.calls.items() if name.startswith(KERNEL))
        return ours, self.calls.total() - self.calls[VIEWS] - ours


@contextmanager
def timed() -> Iterator[Clock]:
    """Time the launches within; the clock is filled at the end."""
    clock, run = Clock(), threads.run

    def timed_run(kernel: Callable[..., None], arguments: Sequence[Any], cuts: Sequence[int]) -> None:
        started = time.perf_counter()
        run(kernel, arguments, cuts)
        clock.add(KERNEL + kernel.__name__, time.perf_counter() - started)

    threads.run = timed_run
    # There is one cycle; torch before 2.13 warns unless it is told what to do with others.
    cpu = [torch.profiler.ProfilerActivity.CPU]
    try:
        with torch.profiler.profile(activities=cpu, acc_events=True) as recorded:
            yield clock
    finally:
        threads.run = run
    for event in recorded.events():
        if event.name.startswith("aten::") and not _within_another(event):
            clock.add(VIEWS if event.name in _FORMS else event.name, 1e-6 * event.cpu_time_total)


def _within_another(event: Any) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith("aten::"):
            return True
        parent = parent.cpu_parent
    return False


def launches(step: Callable[[], object]) -> tuple[int, int]:
    """How many kernels and how many operators one step runs."""
    with timed() as clock:
        step()
    return clock.launches()


def profile(step: Callable[[], object], steps: int) -> dict[str, Any]:
    """Seconds a step spends in each kernel and operator, and between them.

    They are timed in steps with a clock at each of them, the whole step without; the difference, what passes between
    them, is Python, autograd and dispatch. Where the clock itself makes them look longer than the step, it is 0.

    Returns:
        ``{"seconds", "kernels", "operators", "rows": [{"name", "calls", "seconds"}], "between"}``: kernels and
        operators launched, rows with the largest first.
    """
    step()
    whole = sorted(timing.block(step, steps) for _ in range(3))[1]
    with timed() as clock:
        for _ in range(steps):
            step()
    rows = [
        {"name": name, "calls": clock.calls[name] / steps, "seconds": seconds / steps}
        for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])
    ]
    ours, torchs = clock.launches()
    return {
        "seconds": whole,
        "kernels": ours / steps,
        "operators": torchs / steps,
        "rows": rows,
        "between": max(0.0, whole - sum(row["seconds"] for row in rows)),
    }


class _Nothing(torch.autograd.Function):
    """One step of autograd whose gradients are ones."""

    @staticmethod
    def forward(ctx: Any, work: Callable[[], None], *parameters: Tensor) -> Tensor:
        work()
        ctx.shapes = [parameter.shape for parameter in parameters]
        return torch.from_numpy(np.array(0, np.float32))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(torch.from_numpy(np.ones(shape, np.float32)) for shape in ctx.shapes)


def empty(kernels: int, wanted: int) -> Callable[[], None]:
    """A training step that computes nothing, with so many kernels, and as many of torch's operators or its own few.

    Kernels add up one number, operators multiply two; around them are one step of autograd, as a model's loss is, and
    one fused Adam step over eight parameters, as many as two layers have, without its bookkeeping.
    """
    parameters = [torch.ones(1, requires_grad=True) for _ in range(8)]
    optimizer = torch.optim.Adam(parameters, fused=True)
    x, total, one = np.ones((1, 1), np.float32), np.empty((1, 1), np.float32), torch.ones(1)
    column_sums = operators.cpu().column_sums

    def step(length: int) -> None:
        def work() -> None:
            for _ in range(kernels):
                threads.run(column_sums, (x, total, 1), [0, 1])
            for _ in range(length):
                torch.mul(one, one)

        optimizing.zero_grad(optimizer)
        _Nothing.apply(work, *parameters).backward()
        optimizing.step(optimizer)

    step(0)  # Adam's first step makes its state
    own = launches(lambda: step(0))[1]
    return lambda: step(max(0, wanted - own))


def empty_step(kernels: int, wanted: int) -> float:
    """Seconds of an `empty` step: what launches, Python and autograd take at the least. The best of five means."""
    step = empty(kernels, wanted)
    for _ in range(20):
        step()
    return min(timing.block(step, 50) for _ in range(5))
