"""A process of its own: peak memory of a training step, or time and memory of a long causal pass.

Usage: python -m attention_bench.worker '{"task": "training", ...}'; prints one line of JSON.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from bench_common.memory import Peak
from bench_common.workers import answer
from torch import Tensor

from attention_bench import contestants
from attention_bench.contestants import HEADS, SIZE
from attention_bench.races import gradients
from layerlab.attention import linear_attention


def training(mode: str, runner: str, n: int, threads: int) -> dict[str, Any]:
    """Peak memory of forward and backward above the idle process.

    Idle means: everything imported, kernels loaded (a short step does that), q, k, v and the result's gradient there.
    """
    torch.set_num_threads(threads)
    gradients(
        mode,
        runner,
        [x.requires_grad_(True) for x in contestants.inputs(256)],
        torch.ones(1, HEADS, 256, SIZE),
    )
    parts = [x.requires_grad_(True) for x in contestants.inputs(n)]
    upstream = torch.ones_like(parts[0])
    memory = Peak()
    gradients(mode, runner, parts, upstream)
    return {"n": n, "array_bytes": parts[0].nbytes, **memory.found()}


@torch.no_grad()
def causal(n: int, form: str, piece: int, runs: int, threads: int) -> dict[str, Any]:
    """A causal forward pass over n tokens: "whole", with q, k and v in memory, or in "pieces" with a state.

    Numbers repeat from piece to piece; the clock runs while attention does. Idle means: whatever holds the input is
    there, which in pieces is one piece.
    """
    torch.set_num_threads(threads)
    contestants.ours_causal(*contestants.inputs(256))
    copies = max(1, n // piece)
    parts = contestants.inputs(min(n, piece))
    if form == "whole":
        # One after the other, or there would be room for two of each.
        parts = tuple(x if copies == 1 else x.repeat(1, 1, copies, 1) for x in parts)
    memory = Peak()
    seconds, last = [], None
    for _ in range(runs):
        started = time.perf_counter()
        last = (
            contestants.ours_causal(*parts)[:, :, -1].clone()
            if form == "whole"
            else _in_pieces(parts, copies)
        )
        seconds.append(time.perf_counter() - started)
    assert last is not None
    return {
        "n": n,
        "form": form,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "last": [float(x) for x in last.flatten()[:4]],
        **memory.found(),
    }


def _in_pieces(parts: tuple[Tensor, ...], copies: int) -> Tensor:
    state, out = None, parts[0]
    for _ in range(copies):
        out, state = linear_attention(*parts, causal=True, state=state, return_state=True)
    return out[:, :, -1].clone()


if __name__ == "__main__":
    answer({"training": training, "causal": causal})
