"""What certified codebooks cost: correctness first, then coherence against matrix products, and Kerdock sets.

Usage: python benchmarks/projection.py [--quick] [--only gate,certify,...] [--threads N] [--docs] [--results FILE]

Parts: gate (coherence, nearest pairs and histogram on every way against a slow reference, and a Kerdock set; always
run, and nothing is timed if one differs), certify (20,000 vectors of 1,024 dimensions against torch.mm on the same
blocks), ways (four exact ways to the products of signs), kerdock (all 525,312 lines of 1,024 dimensions proved, sampled
and written, in a process of its own), frames (ten small frames against published coherences), draws (how often random
maps fail, a thousand draws each, and what the fast one costs). Each is written to the results as soon as it is
finished. `--quick` is a smoke run at small sizes: its figures mean nothing, and it writes to build/. `--docs` measures
nothing and writes docs/benchmarks-projection.md from the stored results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bench_common import command
from bench_common.command import Benchmark, say
from bench_common.workers import ask
from projection_bench import draws, gate, lines, page, races

COUNT, DIM = 20_000, 1024
WORKER = "projection_bench.worker"


def check(quick: bool, threads: int) -> dict[str, Any]:
    say("gate: coherence of signs, real and complex vectors")
    found = gate.check_all(300 if quick else 3_000)
    say(f"    largest difference {found['largest']:.1e}, allowed {gate.ALLOWED:.0e}")
    return found


def certify(quick: bool, threads: int) -> dict[str, Any]:
    count, dim = (1_200, 64) if quick else (COUNT, DIM)
    say(f"certify: {count:,} vectors of {dim:,} dimensions")
    found = races.certify(count, dim, 2 if quick else 3)
    for name, row in found["rows"].items():
        say(f"    {name}: {row['median_seconds']:.2f} s, {100 * row['share']['ratio']:.0f} % of the rate")
    return found


def ways(quick: bool, threads: int) -> dict[str, Any]:
    side = 256 if quick else 1024
    say(f"ways: {side:,} by {side:,} products of signs")
    found = races.ways(side, 128 if quick else DIM, 2 if quick else 9)
    for name, row in found["rows"].items():
        say(f"    {name}: {row['nanoseconds']:.2f} ns a pair")
    return found


def kerdock(quick: bool, threads: int) -> dict[str, Any]:
    dim, measured = (64, 10**5) if quick else (1024, 10**9)
    say(f"kerdock: all lines of {dim:,} dimensions")
    found = ask(WORKER, {"task": "kerdock", "dim": dim, "measured": measured, "threads": threads})
    say(f"    proved in {found['prove_seconds']:.2f} s, certified in {found['certify_seconds']:.1f} s")
    return found


def frames(quick: bool, threads: int) -> dict[str, Any]:
    say("frames: ten small ones")
    rows = lines.found(1 if quick else None)
    say(f"    at most {100 * max(row['above'] for row in rows):.2f} % above what is published")
    return {"rows": rows}


def failures(quick: bool, threads: int) -> dict[str, Any]:
    size = (20, 30, 256, 0.5) if quick else (1_000, 100, 512, 0.4)
    say(f"draws: {size[0]:,} of each map")
    costs = draws.costs((2_048,) if quick else (2_048, 4_096, 16_384, 65_536))
    return {"costs": costs, **draws.rates(*size)}


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "gate": check,
    "certify": certify,
    "ways": ways,
    "kerdock": kerdock,
    "frames": frames,
    "draws": failures,
}

# Whatever is timed, the gate comes first.
BENCHMARK = Benchmark("projection", __doc__, PARTS, page.write, page.goals, first=("gate",))


def main() -> int:
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
