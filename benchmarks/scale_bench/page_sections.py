"""The longer sections of docs/benchmarks-scale.md: epochs against torch_geometric's, growth over sizes."""

from __future__ import annotations

from typing import Any

from bench_common import words

from scale_bench import growth
from scale_bench.batches import EDGES, LOADER, MATRICES, OURS

NAMES = {"convert": "conversion", "operator": "making P", "product": "P times 16 columns", "batch": "a batch"}


def took(part: dict[str, Any]) -> str:
    """What a process took."""
    return (
        f"{words.significant(part['processor_seconds'])} s of processor, "
        f"{words.significant(part['wall_seconds'])} s by"
        f" the wall, peak {words.size(part['peak_bytes'])}, own {words.size(part['own_bytes'])}"
    )


def epoch(part: dict[str, Any]) -> str:
    """Whole batches and steps alone, ours and torch_geometric's."""
    kind = part["kind"].upper()
    count = part["batches"]
    whole = [
        [
            name,
            f"{row['median']['processor']:.2f}",
            f"{row['median']['wall']:.2f}",
            f"{count * row['median']['processor'] / 60:.1f}",
            words.span(row["ratio"]["processor"]),
            words.span(row["ratio"]["wall"]),
        ]
        for name, row in part["whole"].items()
    ]
    alone = [
        [name, f"{row['median']['processor']:.2f}", words.span(row["ratio"]["processor"])]
        for name, row in part["alone"].items()
    ]
    sizes = "; ".join(
        f"{name}: {row['nodes']:,} nodes and {row['messages']:,} messages"
        for name, row in part["sizes"].items()
        if name in (OURS, LOADER)
    )
    drawing = part["pieces"]
    behind = part["behind"]
    heading = {"gcn": "An epoch of a GCN", "gat": "An epoch of a GAT"}[part["kind"]]
    return (
        f"## {heading}\n\nThree layers of width {part['width']}, dropout 0.5, fan-outs "
        f"{', '.join(map(str, part['fanouts']))}, batches of {part['size']:,}, {part['training_nodes']:,} training "
        f"nodes: {count} batches an epoch. Batches were timed in turn, {part['rounds']} rounds; an epoch is their "
        f"median times {count}, not measured to its end. A batch reads ({sizes}).\n\n"
        "torch_geometric's own NeighborLoader needs pyg-lib or torch-sparse: neither is on the registry as a built "
        "package, and torch-sparse could not be compiled in an hour. So it is compared in two ways. Whole batches, "
        "drawn, gathered and stepped one after the other: torch_geometric's layers with `trim_to_layer`, fed by a "
        "sampler in numpy with NeighborLoader's meaning, which is what a user without pyg-lib can have.\n\n"
        + words.table(
            [
                f"{kind}, whole batches",
                "s of processor a batch",
                "s by the wall",
                "minutes an epoch",
                "times ours, processor",
                "times ours, wall",
            ],
            whole,
        )
        + "\n\nAnd steps alone on the very same blocks, drawn and gathered beforehand by ours: neither sampling nor "
        f"features are counted. {_forms(part)}\n\n"
        + words.table([f"{kind}, steps alone", "s of processor a step", "times ours"], alone)
        + (
            "\n\n![Times faster than torch_geometric, by processor](images/benchmarks-scale-ratios.svg)"
            if kind == "GCN"
            else ""
        )
        + f"\n\nOf our batch, drawing takes {drawing['drawing']:.2f} s of processor and gathering "
        f"{drawing['gathering']:.2f} s. As a training has it, drawn by a thread in the background, a batch took "
        f"{behind['processor_seconds']:.2f} s of processor and {behind['wall_seconds']:.2f} s by the wall. The race: "
        f"{took(part)} (all contestants in one process)."
    )


def _forms(part: dict[str, Any]) -> str:
    if MATRICES in part["alone"]:
        return (
            "Edges: a list of edges with values, trimmed after each layer. Matrices: torch's compressed rows, the "
            "faster form."
        )
    return f"{EDGES.split(', ')[1].capitalize()}: trimmed after each layer."


def scaling(part: dict[str, Any]) -> str:
    """Costs by size of graph, and the fitted models."""
    rows = [
        [
            f"{words.many(row['edges'])} edges, {words.many(row['nodes'])} nodes",
            *(words.seconds(row["seconds"][name]) for name in NAMES),
            words.size(row["peaks"]["convert"]["peak_bytes"]),
            f"{row['batch']['read']:,.0f}",
        ]
        for row in part["rows"]
    ]
    found = growth.fits(part["rows"])
    shown = [*NAMES.values(), "conversion's peak", "nodes a batch reads"]
    return (
        "## Growth\n\nSeconds of processor. The batch is a GCN's as above.\n\n"
        + words.table(["graph", *shown], rows)
        + "\n\n![Seconds of processor over edges, measured and fitted](images/benchmarks-scale-growth.svg)\n\n"
        "Fitted: cost = a + b E + c n with E edges and n nodes, none of them negative, by least squares of the "
        f"relative residuals, which stand in the order of the table above. {len(rows)} graphs say little more than "
        "three coefficients do.\n\n"
        + words.table(["cost", "a", "b, a million E", "c, a million n", "residuals"], _linear(found))
        + "\n\nWhere the residuals are large, the cost of an entry is not the same in all graphs: the 64 bytes a node "
        "that a product reads at random lie in a cache in the small ones and not in the large. For those the form "
        "cost = k E^p n^q does better:\n\n"
        + words.table(["cost", "p", "q", "residuals"], _powers(found))
        + "\n\nA batch's cost is bounded by its fan-outs, so neither form holds beyond these sizes: a field grows "
        "until few of its nodes meet again."
    )


def _linear(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            NAMES.get(name, name),
            _unit(name, one["constant"]),
            _unit(name, one["edge"] * 1e6),
            _unit(name, one["node"] * 1e6),
            _residuals(one),
        ]
        for name, one in found.items()
    ]


def _powers(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            NAMES[name],
            f"{found[name]['power']['edge']:.2f}",
            f"{found[name]['power']['node']:.2f}",
            _residuals(found[name]["power"]),
        ]
        for name in ("operator", "product", "batch")
    ]


def _residuals(one: dict[str, Any]) -> str:
    return ", ".join(f"{100 * residual:+.0f} %" for residual in one["residuals"])


def _unit(name: str, value: float) -> str:
    """A coefficient: bytes of memory and disk, else seconds."""
    if not value:
        return "0"
    return words.size(value) if name in ("convert memory", "store") else words.seconds(value)
