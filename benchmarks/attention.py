"""Linear attention against torch's fused softmax: correctness first, then time, memory, growth and the crossover.

Usage: python benchmarks/attention.py [--quick] [--only gate,forward,...] [--threads N] [--docs] [--results FILE]

Batch 1, 8 heads of 64, float32, on both sides. Parts: gate (outputs and gradients against dense float64 twins; always
run, and nothing is timed if one differs), forward (n = 16,384), training (forward and backward at n = 8,192), decode
(one token after up to 65,536 others), lengths (16 to 16,384: where the linear form becomes the faster), memory (peak of
a training step over n, each in a process of its own), long (a causal pass over up to 1,048,576 tokens). Each is written
to the results as soon as it is finished. `--quick` is a smoke run at small sizes: its figures mean nothing, and it
writes to build/. `--docs` measures nothing and writes docs/benchmarks-attention.md from the stored results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from attention_bench import gate, goals, growth, page, races
from bench_common import command
from bench_common.command import Benchmark, say

FORWARD, TRAINING, TOKENS, LONG = 16_384, 8_192, 65_536, 1 << 20


def check(quick: bool, threads: int) -> dict[str, Any]:
    say("gate: outputs and gradients")
    found = gate.check_all(quick, 500 if quick else FORWARD, 500 if quick else TOKENS)
    say(f"    largest relative difference {found['largest']:.1e}")
    return found


def forward(quick: bool, threads: int) -> dict[str, Any]:
    n = 512 if quick else FORWARD
    say(f"forward: {n:,} tokens")
    return _told(races.forward(n, 2 if quick else 5, 0.02 if quick else 0.15))


def training(quick: bool, threads: int) -> dict[str, Any]:
    n = 256 if quick else TRAINING
    say(f"training: {n:,} tokens")
    return _told(races.training(n, 2 if quick else 5, 0.02 if quick else 0.15))


def _told(found: dict[str, Any]) -> dict[str, Any]:
    for mode, rows in found["modes"].items():
        for name, row in rows.items():
            say(f"    {mode}, {name}: {1e3 * row['median_seconds']:.2f} ms")
    return found


def decode(quick: bool, threads: int) -> dict[str, Any]:
    say("decode: one token")
    lengths = [64, 256] if quick else [1024, 4096, 16_384, TOKENS]
    found = races.decode(lengths, 2 if quick else 15, 0.01 if quick else 0.1)
    for name, row in found["rows"][-1]["runners"].items():
        say(f"    after {lengths[-1]:,}, {name}: {1e6 * row['median_seconds']:.0f} µs")
    return found


def lengths(quick: bool, threads: int) -> dict[str, Any]:
    say("lengths: forward passes")
    found = races.over_lengths(
        [16 << step for step in range(4 if quick else 11)], 2 if quick else 9, 0.005 if quick else 0.03
    )
    for mode, part in found["modes"].items():
        say(f"    {mode}: faster from {part['crossover'][races.OURS]['length']} tokens on")
    return found


def memory(quick: bool, threads: int) -> dict[str, Any]:
    sizes = [512, 1024] if quick else [8192, 16_384, 32_768, 65_536]
    return growth.memory(sizes, sizes[0], threads, say)


def long(quick: bool, threads: int) -> dict[str, Any]:
    largest = 4096 if quick else LONG
    sizes = [largest >> step for step in range(2 if quick else 5, 0, -1)]
    return growth.long(sizes, largest, threads, say)


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "gate": check,
    "forward": forward,
    "training": training,
    "decode": decode,
    "lengths": lengths,
    "memory": memory,
    "long": long,
}

# Whatever is timed, the gate comes first.
BENCHMARK = Benchmark("attention", __doc__, PARTS, page.write, goals.table, first=("gate",))


def main() -> int:
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
