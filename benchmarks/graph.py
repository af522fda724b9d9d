"""Training steps of GCN, GAT and SGC against torch_geometric's: correctness first, then time, memory and growth.

Usage: python benchmarks/graph.py [--quick] [--only cora,memory,...] [--threads N] [--docs] [--results FILE]

Parts: cora, pubmed, arxiv (a random power-law graph of ogbn-arxiv's size), sgc, memory, growth, compile. Each is
written to the results as soon as it is finished, so Ctrl-C loses the part that runs and nothing else. `--quick` is a
smoke run on small graphs with few repetitions: its figures mean nothing, and it writes to build/. `--docs` measures
nothing and writes docs/benchmarks.md and its figures from the stored results. Goals and whether they are reached are
printed at the end, as a table in Markdown.
"""

from __future__ import annotations

import os
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

# torch's profiler announces itself on standard error otherwise; read when torch is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from bench_common import command, timing
from bench_common.command import Benchmark, say
from graph_bench import floors, gate, page, processes, profiles, runners, sgc, workloads

KINDS = ("gcn", "gat")


def layer_shapes(workload: workloads.Workload, kind: str, name: str) -> list[floors.LayerShape]:
    """The sizes of a runner's layers, from the operators that it runs on."""
    from layerlab.graph.field import receptive_field
    from layerlab.graph.layers import neighbourhoods

    graph, settings = workload.graph, workload.settings[kind]
    operator = graph.normalized_adjacency() if kind == "gcn" else neighbourhoods(graph)
    operators, stored = [operator, operator], None
    features = workload.features
    if name == runners.FIELD:
        part = receptive_field(operator, workload.train, 2)
        operators, features = list(part.operators), runners.rows_of(features, part.inputs)
    if not isinstance(features, torch.Tensor):
        stored = features.nnz
    heads, out_heads = (settings.heads, settings.out_heads) if kind == "gat" else (1, 1)
    widths = [features.shape[1], heads * settings.hidden]
    outputs = [(settings.hidden, heads), (workload.classes, out_heads)]
    return [
        floors.LayerShape(*op.shape, op.nnz, width, out, count, stored if position == 0 else None)
        for position, (op, width, (out, count)) in enumerate(zip(operators, widths, outputs, strict=True))
    ]


def epochs(workload: workloads.Workload, rounds: int, checks: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Both models' training steps: gate, paired timings, floors and profiles."""
    result: dict[str, Any] = {"sizes": workload.sizes(), "gate": checks, "rounds": rounds, "models": {}}
    for kind in KINDS:
        say(f"{workload.name}: {kind}: gradients")
        checks.setdefault(kind, {})["float32"] = gate.compare(workload, kind, torch.float32)
        everyone = {runner.name: runner for runner in runners.contestants(workload, kind)}
        say(f"{workload.name}: {kind}: timing {', '.join(everyone)}")
        longest = 0.03 if quick else timing.BLOCK_SECONDS
        timed = timing.in_turn({name: runner.step for name, runner in everyone.items()}, rounds, longest)
        base = timed["seconds"][runners.PEER]
        rows = {}
        for name, seconds in timed["seconds"].items():
            rows[name] = {
                "seconds": seconds,
                "steps_per_block": timed["steps_per_block"][name],
                "median_seconds": statistics.median(seconds),
                "times_faster": timing.ratio(base, seconds),
            }
            ratio = rows[name]["times_faster"]
            say(
                f"    {name:36} {1e3 * rows[name]['median_seconds']:10.3f} ms  {ratio['ratio']:7.1f} "
                f"[{ratio['low']:.1f}, {ratio['high']:.1f}]"
            )
            if not name.startswith("layerlab"):
                continue
            runner, steps = everyone[name], timed["steps_per_block"][name]
            rows[name]["profile"] = profiles.profile(runner.step, min(steps, 100))
            launched = [rows[name]["profile"][which] for which in ("kernels", "operators")]
            work = floors.count(layer_shapes(workload, kind, name), kind)
            empty = profiles.empty_step(*(round(count) for count in launched))
            rows[name]["floor"] = floors.floor(work, sum(launched), empty)
        result["models"][kind] = rows
    return result


def float64_checks(workload: workloads.Workload) -> dict[str, Any]:
    say(f"{workload.name}: outputs and gradients in float64")
    return {kind: {"float64": gate.compare(workload, kind, torch.float64)} for kind in KINDS}


def cora(quick: bool, threads: int) -> dict[str, Any]:
    workload = workloads.named("cora")
    checks = float64_checks(workload)
    for kind in KINDS:
        say(f"cora: {kind}: accuracies after short trainings")
        checks[kind]["trained"] = gate.trained(workload, kind, 0 if quick else 6)
    return epochs(workload, 3 if quick else 15, checks, quick)


def pubmed(quick: bool, threads: int) -> dict[str, Any]:
    workload = workloads.named("pubmed")
    return epochs(workload, 1 if quick else 9, {} if quick else float64_checks(workload), quick)


def arxiv(quick: bool, threads: int) -> dict[str, Any]:
    # float64 on a graph of the same kind that torch_geometric has the memory for; float32 at full size.
    checks = float64_checks(workloads.power_law(10_000, scale_name="arxiv's kind, 20,000 edges"))
    say("arxiv: generating")
    workload = workloads.power_law(processes.arxiv_edges(quick), scale_name="arxiv-sized")
    result = epochs(workload, 3, checks, quick)
    pattern = workload.graph.normalized_adjacency()
    result["gathering_seconds"] = {
        kind: floors.gathering(workload.graph.num_nodes, pattern.col, pattern.crow, width)
        for kind, width in (("gcn", 16), ("gat", 128))
    }
    return result


def race_sgc(quick: bool, threads: int) -> dict[str, Any]:
    say("sgc: features to trained model")
    return sgc.race(1 if quick else 9)


def memory(quick: bool, threads: int) -> dict[str, Any]:
    return processes.memory(processes.arxiv_edges(quick), ("gat",) if quick else KINDS, threads, say)


def growth(quick: bool, threads: int) -> dict[str, Any]:
    return processes.growth(processes.default_sizes(quick), ("gat",) if quick else KINDS, threads, say)


def compile_kernels(quick: bool, threads: int) -> dict[str, Any]:
    return processes.compilation(threads, say)


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "cora": cora,
    "pubmed": pubmed,
    "sgc": race_sgc,
    "arxiv": arxiv,
    "memory": memory,
    "growth": growth,
    "compile": compile_kernels,
}


BENCHMARK = Benchmark(
    "graph",
    __doc__,
    PARTS,
    page.write,
    page.goals,
    # Compiling takes half a minute by itself.
    named=("compile",),
    # Where it was not fetched.
    optional=("pubmed",),
)


def main() -> int:
    # torch says at every CSR matrix that the format is in beta.
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
