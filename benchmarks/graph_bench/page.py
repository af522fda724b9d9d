"""docs/benchmarks.md and its figures from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench_common import words
from bench_common.sections import Goals, circumstances, of_parts, page, write_page

from graph_bench import figures, gate, targets

NAMES = {"gcn": "GCN", "gat": "GAT"}
WORKLOADS = {"cora": "Cora", "pubmed": "PubMed", "arxiv": "arxiv-sized"}

_HEAD = """\
# Graph benchmarks: time, memory, growth

Written by `python benchmarks/graph.py --docs` from [the stored results](../benchmarks/results/graph.json); `make bench`
measures anew. The rules are those of [benchmarks/README.md](../benchmarks/README.md): nothing is timed before outputs
and gradients agree with torch_geometric's, times are paired within one process, and what is slower is listed too.
"""

_METHOD = """\
An epoch is one training step: zero_grad, forward pass with the papers' dropout, loss on the training nodes, backward
pass, one fused Adam step. The sides take turns (A B A B), each in blocks of as many steps as last about 0.15 s; a
ratio is that of the medians over the blocks, with a 95 per cent bootstrap interval over rounds. Of three rounds, as on
the arxiv-sized graph, that interval is their range. torch_geometric has dense features and a list of edges, as its
users do, with GCN's normalisation cached; "sparse adjacency" is its faster form of GCN, on a CSR matrix normalised
once. layerlab has sparse features where they are sparse; "receptive field" computes what the training nodes depend on,
which is what `layerlab graph train` does ([why](decisions/0006-receptive-fields.md)): same loss, same gradients. It
steps as training does: the model's loss in one step of autograd, Adam without its bookkeeping.
"""


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks.md`` and ``images/benchmarks-*.svg`` into ``folder``."""
    drawn = figures.draw(stored["parts"])
    write_page(folder, "benchmarks", render(stored, set(drawn)), drawn)


def render(stored: dict[str, Any], drawn: set[str]) -> str:
    """The page.

    Args:
        stored: what `bench_common.store.read` returns.
        drawn: names of the figures that there are.
    """
    parts = stored["parts"]
    ratios = "![Times faster than torch_geometric, by workload](images/benchmarks-ratios.svg)"
    sections = [ratios if "benchmarks-ratios" in drawn else ""]
    measured = [name for name in WORKLOADS if name in parts]
    if measured:
        sections.append("## An epoch\n\n" + _METHOD + "\n" + _epochs(parts, measured))
        sections.append(_graphs(parts, measured))
        sections.append(_floors(parts, measured))
    sections += of_parts(
        parts, (("sgc", _sgc), ("memory", _memory), ("growth", _growth), ("compile", _compile))
    )
    if "growth" in parts and "benchmarks-growth" in drawn:
        sections.append("![Seconds of an epoch against edges](images/benchmarks-growth.svg)")
    if measured:
        sections.append(_gates(parts, measured))
        sections.append(_profiles(parts, measured))
    where = circumstances(parts, ("torch_geometric", "numba"))
    return page(_HEAD, stored, where, goals(parts), *sections)


def goals(parts: dict[str, Any]) -> str:
    """The table of goals whose parts were measured: measured ratios with intervals, and whether they are reached."""
    reached = Goals()
    for row in targets.rows(parts):
        reached.add(row.work, row.goal, row.measured, row.reached)
    return reached.table()


def _epochs(parts: dict[str, Any], measured: list[str]) -> str:
    rows = []
    for name in measured:
        for kind, entries in parts[name]["models"].items():
            for runner, entry in entries.items():
                rows.append(
                    [
                        f"{WORKLOADS[name]}, {NAMES[kind]}",
                        runner,
                        words.seconds(entry["median_seconds"]),
                        words.span(entry["times_faster"]),
                        str(len(entry["seconds"])),
                    ]
                )
    note = (
        "DGL could not be installed beside this torch. Figures of it from another day on such a machine, quoted and "
        f"not comparable to the digit: Cora {words.seconds(targets.DGL_CORA['gcn'])} (GCN) and "
        f"{words.seconds(targets.DGL_CORA['gat'])} (GAT); arxiv-sized {targets.DGL_SECONDS['gcn']:g} s (GCN), "
        f"{targets.DGL_SECONDS['gat']:g} s and {words.size(targets.DGL_PEAK['gat'])} at the peak (GAT)."
    )
    head = ["work", "runner", "median epoch", "times torch_geometric's speed", "rounds"]
    return words.table(head, rows) + "\n\n" + note


def _graphs(parts: dict[str, Any], measured: list[str]) -> str:
    rows = []
    for name in measured:
        sizes = parts[name]["sizes"]
        quantiles = sizes["degree_quantiles"]
        rows.append(
            [
                WORKLOADS[name],
                f"{sizes['nodes']:,}",
                f"{sizes['directed_edges']:,}",
                f"{sizes['features']:,} ({words.many(sizes['features_stored'])} stored)",
                str(sizes["classes"]),
                f"{sizes['train']:,}",
                " ".join(f"{value:,.0f}" for value in quantiles.values()),
            ]
        )
    shares = ", ".join(f"{100 * float(q):g}" for q in parts[measured[0]]["sizes"]["degree_quantiles"])
    head = [
        "graph",
        "nodes",
        "directed edges",
        "features",
        "classes",
        "training nodes",
        f"degrees at {shares} %",
    ]
    note = (
        "The arxiv-sized graph is drawn by Chung and Lu's model (seed 0): the ends of an edge are drawn with "
        "probability proportional to (rank)^(-2/3), a tail of exponent 2.5; loops and repeats are drawn again, names "
        "shuffled. Its features are standard normal, its labels uniform, its training nodes as many as ogbn-arxiv's."
    )
    return "## The graphs\n\n" + words.table(head, rows) + "\n\n" + note


def _floors(parts: dict[str, Any], measured: list[str]) -> str:
    rows = []
    for name in measured:
        for kind, entries in parts[name]["models"].items():
            for runner, entry in entries.items():
                if "floor" not in entry:
                    continue
                floor = entry["floor"]
                rows.append(
                    [
                        f"{WORKLOADS[name]}, {NAMES[kind]}, {runner.partition(', ')[2]}",
                        words.size(floor["bytes"]),
                        words.many(floor["operations"]),
                        words.many(floor["random_numbers"]),
                        f"{floor['launches']:.0f}",
                        words.seconds(floor["memory_seconds"]),
                        words.seconds(floor["arithmetic_seconds"]),
                        words.seconds(floor["launch_seconds"]),
                        words.seconds(floor["seconds"]),
                        words.seconds(entry["median_seconds"]),
                        words.significant(entry["median_seconds"] / floor["seconds"]),
                    ]
                )
    head = [
        *("work", "bytes", "operations", "random numbers", "launches", "memory", "arithmetic", "launching"),
        *("floor", "measured", "measured / floor"),
    ]
    note = (
        "Bytes: every array that crosses a layer read or written once. Operations: a multiply-add is two. Memory and "
        "arithmetic are the times that these take at the rates of this machine, measured in the same run: an addition "
        "of arrays of the same footprint, and a dense product. Launches are the kernels and the computing torch "
        "operators of a step; launching is the measured time of a training step that has as many of both on one number "
        "each, one step of autograd and one of Adam. The floor is the larger of memory and arithmetic, plus launching. "
        "Random numbers and exponentials are counted and not timed, and gathers of scattered rows are taken to be free."
    )
    if "gathering_seconds" in parts.get("arxiv", {}):
        gathering = parts["arxiv"]["gathering_seconds"]
        note += (
            f" They are not: torch's own embedding_bag takes {words.seconds(gathering['gcn'])} to add up the "
            f"arxiv-sized graph's rows of 16 numbers once, and {words.seconds(gathering['gat'])} for rows of 128; a "
            "GCN step does it twice at these widths or less, a GAT's hidden layer three times."
        )
    return "## Floors\n\n" + words.table(head, rows) + "\n\n" + note


def _sgc(part: dict[str, Any]) -> str:
    rows = [
        [name, words.seconds(part["median"][name]), f"{100 * part['test_accuracy'][name]:.1f} %"]
        for name in part["median"]
    ]
    rows.append(["the paper, on a GTX 1080 Ti (quoted)", f"{part['paper_seconds']:g} s", "81.0 %"])
    return (
        "## SGC on Cora, features to trained model\n\n"
        + words.table(["", "median", "test accuracy"], rows)
        + "\n\nBoth train 100 epochs of Adam on propagated features, data loaded and packages imported. layerlab's "
        "time is that of `layerlab graph train cora --model sgc`, an evaluation after every epoch included; "
        "torch_geometric's is without any evaluation. Features are propagated once, for the training nodes; an "
        "evaluation propagates classes."
    )


def _memory(part: dict[str, Any]) -> str:
    rows = []
    for kind in NAMES:
        if kind not in part:
            continue
        for runner, label in (("peer", "torch_geometric"), ("layerlab", "layerlab")):
            row = part[kind][runner]
            rows.append(
                [
                    f"{NAMES[kind]}, {label}",
                    words.size(row["above_idle_bytes"]),
                    words.size(row["idle_bytes"]),
                    words.size(row["peak_bytes"]),
                ]
            )
        rows[-1][0] += f" ({words.significant(part[kind]['share'])} of torch_geometric's)"
    text = (
        "The peak of the whole process, as the system counts it, over two training steps, above the idle process: "
        "packages imported, code loaded (a tiny graph was trained on), data there as the package's user holds them. "
        "One process each. "
    )
    if "gat" in part:
        text += f"DGL's peak for the GAT, quoted: {words.size(targets.DGL_PEAK['gat'])}."
    head = ["model", "above idle", "idle", "peak"]
    title = f"## Memory, {part['edges']:,} directed edges\n\n"
    return title + words.table(head, rows) + "\n\n" + text.rstrip()


def _growth(part: dict[str, Any]) -> str:
    rows = [
        [
            NAMES[kind],
            f"{row['directed_edges']:,}",
            f"{row['nodes']:,}",
            words.seconds(row["median_seconds"]),
            words.size(row["above_idle_bytes"]),
        ]
        for kind in NAMES
        for row in part.get(kind, {}).get("rows", ())
    ]
    fits = []
    for kind, name in NAMES.items():
        if kind in part:
            time, memory = part[kind]["seconds"], part[kind]["memory"]
            fits.append(
                f"{name}: seconds grow as edges^{time['exponent']:.2f} (standard error {time['error']:.2f}), memory as "
                f"edges^{memory['exponent']:.2f} ({memory['error']:.2f})."
            )
    return (
        "## Growth\n\nlayerlab on Chung-Lu graphs of one mean degree (13.8), 128 dense features, each size in a "
        "process of its own. "
        + " ".join(fits)
        + "\n\n"
        + words.table(["model", "directed edges", "nodes", "median epoch", "memory above idle"], rows)
    )


def _compile(part: dict[str, Any]) -> str:
    empty, filled = part["empty cache"], part["filled cache"]
    rows = [
        [
            name,
            words.seconds(empty["first"][name]),
            words.seconds(filled["first"][name]),
            words.seconds(filled["tenth"][name]),
        ]
        for name in empty["first"]
    ]
    rows.append(["together", words.seconds(empty["sum_of_first"]), words.seconds(filled["sum_of_first"]), ""])
    return (
        "## Compilation\n\nThe first training step in a process that finds no compiled kernels, and in one that finds "
        "those which the first has left; the tenth step for comparison. In this order, so a later row finds what an "
        "earlier one has loaded.\n\n"
        + words.table(["step on Cora", "first ever", "first of a process", "tenth"], rows)
    )


def _gates(parts: dict[str, Any], measured: list[str]) -> str:
    rows = []
    for name in measured:
        for kind, checks in parts[name]["gate"].items():
            worst = [
                max(checks[dtype].values()) if dtype in checks else None for dtype in ("float64", "float32")
            ]
            trained = checks.get("trained", {})
            pair = "same class for every node" if trained else ""
            if "difference" in trained:
                theirs, ours = (
                    100 * sum(trained[f"{side}_with_dropout"]) / trained["seeds"]
                    for side in ("torch_geometric", "layerlab")
                )
                between = {name: 100 * value for name, value in trained["difference"].items()}
                pair += (
                    f"; with dropout {theirs:.1f} % and {ours:.1f} %, {between['mean']:+.1f} "
                    f"[{between['low']:+.1f}, {between['high']:+.1f}] points ({trained['seeds']} seeds)"
                )
            rows.append(
                [
                    f"{WORKLOADS[name]}, {NAMES[kind]}",
                    *("" if value is None else f"{value:.1e}" for value in worst),
                    pair,
                ]
            )
    head = ["work", "float64", "float32", "after a short training"]
    return (
        "## The gate\n\nThe largest difference of outputs, loss and gradients from torch_geometric's, of every runner "
        "and of layerlab's plain torch path, on the same perturbed weights without dropout, relative to the largest "
        "number. float64 of the arxiv-sized work is on a graph of its kind with 20,000 edges. After "
        f"{gate.EPOCHS_WITHOUT} epochs without dropout both must put every node into the same class. With it they draw "
        f"other numbers: test accuracies after {gate.EPOCHS_WITH} epochs (torch_geometric's first), both from a seed's "
        "same weights, and the difference with Student's 95 per cent interval over seeds, which must lie within "
        f"{100 * gate.ALLOWED_ACCURACY:.0f} points.\n\n" + words.table(head, rows)
    )


def _profiles(parts: dict[str, Any], measured: list[str], most: int = 6) -> str:
    blocks = [
        "## Where the remaining time goes\n\nThe share of a step inside each kernel of ours and each torch operator, "
        "forward, backward and optimizer together. Kernels are timed where rows are dealt to threads, operators by "
        'torch\'s profiler, so the step takes the way that was timed; "between them" is the rest of an untimed step: '
        "Python, autograd, allocation, dispatch."
    ]
    for name in measured:
        for kind, entries in parts[name]["models"].items():
            for runner, entry in entries.items():
                if "profile" in entry:
                    title = f"### {WORKLOADS[name]}, {NAMES[kind]}, {runner.partition(', ')[2]}"
                    blocks.append(f"{title}\n\n{_profile(entry['profile'], most)}")
    return "\n\n".join(blocks)


def _profile(profile: dict[str, Any], most: int) -> str:
    shown, between = profile["rows"], profile["between"]
    total = sum(row["seconds"] for row in shown) + between
    rest = shown[most:]
    lines = [(f"`{row['name']}`", row["calls"], row["seconds"]) for row in shown[:most]]
    if rest:
        lines.append((f"{len(rest)} others", sum(r["calls"] for r in rest), sum(r["seconds"] for r in rest)))
    lines.append(("between them", None, between))
    return words.table(
        ["", "calls", "time", "share"],
        [
            [
                name,
                "" if calls is None else f"{calls:.0f}",
                words.seconds(took),
                f"{100 * took / total:.0f} %",
            ]
            for name, calls, took in lines
        ],
    )
