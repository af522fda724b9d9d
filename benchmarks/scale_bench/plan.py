"""What the measured figures say of papers100M, quantity by quantity: a formula, and what it gives.

Nothing is typed by hand but the sizes of the target graph and what a machine of a kind has; whatever is measured comes
from the stored results.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from scale_bench import growth
from scale_bench.batches import OURS

INT32 = 2**31 - 1
WIDTH = 16  # columns of a block of features
WAITING = 5  # batches in memory: three that wait, one that is drawn, one in use
HIDDEN = 256


@dataclass(frozen=True)
class Target:
    """A graph that was not measured."""

    name: str
    nodes: int
    edges: int
    columns: int
    classes: int
    train: int
    judged: int
    """Nodes with a label: those that train, choose or are reported."""

    @property
    def entries(self) -> int:
        """Of P: both directions of each edge, and n self-loops."""
        return 2 * self.edges + self.nodes


# ogbn-papers100M: the citations taken in both directions, as its users do.
PAPERS = Target("ogbn-papers100M", 111_059_956, 1_615_685_872, 128, 172, 1_207_179, 1_546_782)


@dataclass(frozen=True)
class Line:
    """One quantity: what it is, how it is reckoned, what comes out, and of which kind that is."""

    what: str
    formula: str
    value: float
    unit: str


def store_bytes(target: Target) -> float:
    """8 E of columns, n (8 + 8 + 4 + 1) of offsets, degrees, labels and split, 4 n F of features.

    >>> store_bytes(Target("small", 10, 20, 3, 2, 5, 10))
    490.0
    """
    return 8.0 * target.edges + 21.0 * target.nodes + 4.0 * target.nodes * target.columns


def operator_bytes(target: Target) -> float:
    """P as it is made of a store: the graph with self-loops, a copy of that as tensors, and values.

    Columns are as wide as offsets, 64 bits beyond 2^31 entries.
    """
    wide = 8 if target.entries > INT32 else 4
    return (2 * wide + 4.0) * target.entries + 2 * wide * target.nodes


def measured_target(parts: dict[str, Any]) -> Target:
    """The graph that was measured, as a target: the formulas are held against it."""
    part = parts["convert"]
    train = parts["gcn"]["training_nodes"]
    return Target(
        *("the measured graph", part["nodes"], part["edges"], part["columns"], part["classes"]),
        *(train, part["nodes"]),
    )


def checks(parts: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(what, by formula, measured) on the graph that was measured."""
    small = measured_target(parts)
    fits, inference = growth.fits(parts["scaling"]["rows"]), parts["inference"]
    largest = max(parts["scaling"]["rows"], key=lambda row: row["edges"])
    return [
        ("store, bytes", store_bytes(small), parts["convert"]["bytes"]),
        (
            "inference, own bytes: P and two levels of activations",
            operator_bytes(small) + activations(small),
            inference["own_bytes_within"],
        ),
        ("SGC, own bytes", sgc_bytes(small), parts["sgc"]["own_bytes"]),
        (
            "conversion, s of processor",
            growth.predicted(fits["convert"], largest["edges"], largest["nodes"]),
            largest["seconds"]["convert"],
        ),
    ]


def activations(target: Target) -> float:
    """Before and after a layer's product or propagation, for all nodes."""
    return 2.0 * 4 * target.nodes * HIDDEN


def sgc_bytes(target: Target) -> float:
    """P, propagated features of the judged, three blocks of columns, and in an evaluation four times their outputs."""
    evaluated = 4.0 * 4 * target.judged * target.classes
    kept = 4.0 * target.judged * target.columns
    return operator_bytes(target) + kept + max(3.0 * 4 * WIDTH * target.nodes, evaluated)


def waiting_bytes(parts: dict[str, Any], target: Target) -> float:
    """What a rank of mini-batches holds beside P: the sampler's scratch, scales of rows, batches that wait."""
    found = batch(parts)
    return 13.0 * target.nodes + WAITING * (28 * found["messages"] + 4 * found["nodes"] * target.columns)


def batch(parts: dict[str, Any]) -> dict[str, float]:
    """What a batch of the measured graph reads and takes; of a larger graph it is taken to be the same."""
    part = parts["gcn"]
    return {
        "nodes": part["sizes"][OURS]["nodes"],
        "messages": part["sizes"][OURS]["messages"],
        "seconds": part["whole"][OURS]["median"]["processor"],
        "size": part["size"],
        "most": part["size"] * (1 + part["fanouts"][0]) * (1 + part["fanouts"][1]) * (1 + part["fanouts"][2]),
    }


def parameters(target: Target) -> int:
    """Weights and biases of three layers of width 256."""
    widths = (target.columns, HIDDEN, HIDDEN, target.classes)
    return sum(a * b + b for a, b in itertools.pairwise(widths))


def pass_seconds(parts: dict[str, Any]) -> float:
    """Seconds of processor of one more run over the edges while converting, an edge."""
    part = parts["convert"]
    more = part["little"]["processor_seconds"] - part["processor_seconds"]
    before = -(-8 * part["edges"] // (1 << 29))
    return max(0.0, more) / (part["little"]["runs"] - before) / part["listed"]


def lines(parts: dict[str, Any], target: Target = PAPERS) -> list[Line]:
    """The quantities of the plan, in the order in which they are told."""
    small, fits = measured_target(parts), growth.fits(parts["scaling"]["rows"])
    found, spread = batch(parts), fits["convert"]
    wider = target.columns / small.columns
    tables = sum(parts["convert"]["tables_bytes"].values()) - parts["convert"]["tables_bytes"]["features.npy"]
    an_edge = tables / parts["convert"]["listed"]
    blocks = -(-target.columns // WIDTH)
    batches = -(-target.train // int(found["size"]))
    sgc = parts["sgc"]
    largest = max(parts["scaling"]["rows"], key=lambda row: row["edges"])
    conversion = (
        spread["constant"] + spread["edge"] * target.edges + spread["node"] * target.nodes * max(1.0, wider)
    )
    runs = float(-(-8 * target.edges // (1 << 29)))
    again = pass_seconds(parts) * target.edges
    # Of the largest graph, an entry: in smaller ones the columns stay in a cache.
    block = largest["seconds"]["product"] / largest["edges"] * target.edges
    return [
        Line(
            *("tables, Parquet", "measured bytes an edge x E, 4 n F of features"),
            an_edge * target.edges + 4.0 * target.nodes * target.columns,
            "bytes",
        ),
        Line("store", "8 E + 21 n + 4 n F", store_bytes(target), "bytes"),
        Line("store, an edge", "8", 8.0, "bytes"),
        Line("store, a node", "21 + 4 F", 21 + 4.0 * target.columns, "bytes"),
        Line(
            *("disk while converting", "store + 8 E, beside the tables"),
            store_bytes(target) + 8.0 * target.edges,
            "bytes",
        ),
        Line(
            *("runs of rows with --memory 1GB", "8 E of columns / half of the memory"),
            runs,
            "count",
        ),
        Line(
            *("converting in one run, one core", "a + b E + c n F / F_measured"),
            conversion,
            "seconds",
        ),
        Line(
            *("one more run, one core", "measured seconds an edge and run x E"),
            again,
            "seconds",
        ),
        Line(
            "converting with --memory 1GB, one core",
            "the first, and a run more for each",
            conversion + (runs - 1) * again,
            "seconds",
        ),
        Line("--memory for one run", "2 x 8 E", 16.0 * target.edges, "bytes"),
        Line(
            *("P", "20 (2 E + n) + 16 n: 64-bit columns twice, values"),
            operator_bytes(target),
            "bytes",
        ),
        Line(
            *("P with 32-bit columns, once, if the program kept it so", "8 (2 E + n) + 8 n"),
            8.0 * target.entries + 8.0 * target.nodes,
            "bytes",
        ),
        Line(
            *(
                f"SGC, K = {sgc['steps']}, one core",
                f"{sgc['steps']} x {blocks} blocks x measured product x E / E_measured",
            ),
            sgc["steps"] * blocks * block,
            "seconds",
        ),
        Line(
            *("SGC's memory, C classes, j nodes judged", "P + 4 j F + max(3 x 64 n, 16 j C)"),
            sgc_bytes(target),
            "bytes",
        ),
        Line("batches of an epoch", "training nodes / 1,024", float(batches), "count"),
        Line(
            "an epoch of GCN, one core",
            "batches x measured seconds of a batch",
            batches * found["seconds"],
            "seconds",
        ),
        Line(
            *("the same, were no node drawn twice", "x (most nodes a batch can read / those it read)"),
            batches * found["seconds"] * found["most"] / found["nodes"],
            "seconds",
        ),
        Line(
            *("memory of mini-batches, a rank", "P + 13 n + 5 (28 messages + 4 F nodes read)"),
            operator_bytes(target) + waiting_bytes(parts, target),
            "bytes",
        ),
        Line(
            *("features gathered a batch", "nodes read x 4 F"),
            4.0 * found["nodes"] * target.columns,
            "bytes",
        ),
        Line(
            *("pages read a batch, features not in memory", "nodes read x blocks of 16 columns"),
            found["nodes"] * blocks,
            "count",
        ),
        Line(
            *("activations of inference", "2 x 4 n x 256, in a file where memory lacks"),
            activations(target),
            "bytes",
        ),
        Line(
            *("inference, one core", "measured seconds x (2 E + n) / entries measured"),
            parts["inference"]["times"]["processor_seconds"] * target.entries / small.entries,
            "seconds",
        ),
        Line("gradients a step", "4 bytes x parameters", 4.0 * parameters(target), "bytes"),
    ]
