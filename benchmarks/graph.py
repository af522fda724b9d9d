"""Training steps of GCN, GAT and SGC against torch_geometric's: correctness first, then time, memory and growth.

Usage: python benchmarks/graph.py [--quick] [--only cora,memory,...] [--threads N] [--docs] [--results FILE]

Parts: cora, pubmed, arxiv (a random power-law graph of ogbn-arxiv's size), sgc, memory, growth, compile. Each is
written to the results as soon as it is finished, so Ctrl-C loses the part that runs and nothing else. `--quick` is a
smoke run on small graphs with few repetitions: its figures mean nothing, and it writes to build/. `--docs` measures
nothing and writes docs/benchmarks.md and its figures from the stored results. Goals and whether they are reached are
printed at the end, as a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# torch's profiler announces itself on standard error otherwise; read when torch is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from graph_bench import floors, gate, processes, profiles, runners, sgc, store, timing, workloads

from layerlab.errors import UserError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "graph.json"
KINDS = ("gcn", "gat")


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run, under a minute")
    parser.add_argument("--only", default=None, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for both sides")
    parser.add_argument("--docs", action="store_true", help="write the page from the stored results")
    parser.add_argument("--results", type=Path, default=None, metavar="FILE")
    given = parser.parse_args()
    # Compiling takes half a minute by itself, so a smoke run leaves it out unless it is named.
    wanted = (
        given.only.split(",")
        if given.only
        else [name for name in PARTS if not (given.quick and name == "compile")]
    )
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    if given.threads < 1:
        parser.error(f"expected --threads >= 1, got {given.threads}")
    given.only = wanted
    given.results = given.results or (
        ROOT / "build" / "benchmarks" / "graph.json" if given.quick else RESULTS
    )
    return given


def measure(given: argparse.Namespace) -> int:
    """Run the parts; returns the exit status."""
    command = shlex.join(["python", "benchmarks/graph.py", *(word for word in sys.argv[1:])])
    written = store.Store(given.results, command, given.quick)
    torch.set_num_threads(given.threads)
    for name in given.only:
        around = store.circumstances(given.threads)
        started = time.perf_counter()
        try:
            part = PARTS[name](given.quick, given.threads)
        except gate.GateError as error:
            print(f"error: {error}: nothing is timed", file=sys.stderr)
            return 1
        except UserError as error:
            # PubMed where it was not fetched: a line that says so, and the other parts.
            say(f"{name} left out: {error}")
            continue
        written.put(name, {**around, "took_seconds": time.perf_counter() - started, **part})
        say(f"{name}: done in {time.perf_counter() - started:.0f} s")
    return 0


def main() -> int:
    given = arguments()
    # torch says at every CSR matrix that the format is in beta.
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    try:
        if not given.docs:
            status = measure(given)
            if status:
                return status
        from graph_bench import page

        documents = ROOT / "docs" if given.results == RESULTS else given.results.parent
        stored = store.read(given.results)
        page.write(stored, documents)
        say("the page is written")
        print(page.goals(stored["parts"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
