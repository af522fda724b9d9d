"""What a graph of ogbn-products' size costs: conversion, training, inference, certificate, and how all that grows.

Usage: python benchmarks/scale.py [--quick] [--only gate,convert,...] [--work DIR] [--threads N] [--docs]

Parts: gate (everything that is timed, on a small graph against slow twins and torch_geometric; always run), convert,
sgc, gcn and gat (batches of an epoch, against torch_geometric), inference and inference-gat, scaling (sizes of graphs,
fitted models), memory (estimates against peaks), accuracy and accuracy-planted (mini-batches against full batches),
ranks (one process and two). Only where it is named: certificate (ten minutes on two threads). Each is written to the
results as soon as it is finished, and each can be run alone; graphs are generated once and kept in the working folder.
Every measured task is a process of its own, watched from outside. `--quick` is a smoke run on small graphs: its
figures mean nothing, and it writes to build/. `--docs` measures nothing and writes docs/benchmarks-scale.md and
docs/scale-plan.md from the stored results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bench_common import command
from bench_common.command import Benchmark, say
from scale_bench import comparing, gate, growth, measuring, page, places


def check(quick: bool, threads: int) -> dict[str, Any]:
    say("gate: store, sampler, layers and inference against slow twins")
    found = gate.check_all()
    say(f"    largest difference {found['largest']:.1e}, allowed {gate.ALLOWED:.0e}")
    return found


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "gate": check,
    "convert": measuring.convert,
    "sgc": measuring.sgc,
    "gcn": comparing.gcn,
    "gat": comparing.gat,
    "inference": measuring.inference,
    "inference-gat": measuring.inference_gat,
    "scaling": growth.scaling,
    "memory": comparing.memory,
    "accuracy": comparing.accuracy,
    "accuracy-planted": comparing.accuracy_planted,
    "ranks": measuring.ranks,
    "certificate": measuring.certificate,
}

BENCHMARK = Benchmark(
    *("scale", __doc__, PARTS, page.write, page.goals),
    first=("gate",),
    asked=("certificate",),
    options=places.options,
    begin=places.begin,
)


def main() -> int:
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
