"""docs/scale-plan.md: what the measured figures say of papers100M, every number by a formula that is shown."""

from __future__ import annotations

from typing import Any

from bench_common import words
from bench_common.sections import circumstances, page

from layerlab.lab.memory import size
from scale_bench import machines, plan

_NEEDED = ("convert", "sgc", "gcn", "inference", "scaling")
_HEAD = """\
# papers100M on machines one can rent: a plan

Written by `python benchmarks/scale.py --docs` from [the stored results](../benchmarks/results/scale.json), as
[benchmarks-scale.md](benchmarks-scale.md) is. Nothing here was measured at this size: each number is a formula over
what was measured on a graph of ogbn-products' size, and the formula stands beside it. Seconds are those of one core
of the machine below, and are as good as that machine was quiet.
"""


def possible(parts: dict[str, Any]) -> bool:
    """Whether all parts that the plan rests on were measured."""
    return all(name in parts for name in _NEEDED)


def render(stored: dict[str, Any]) -> str:
    """The page of what `bench_common.store.read` returns."""
    parts = stored["parts"]
    where = circumstances({name: parts[name] for name in _NEEDED})
    return page(
        _HEAD,
        stored,
        where,
        "",
        _sizes(parts),
        _held(parts),
        _quantities(parts),
        _machines(parts),
        _network(parts),
        _breaks(parts),
    )


def _sizes(parts: dict[str, Any]) -> str:
    rows = [
        [
            target.name,
            f"{target.nodes:,}",
            f"{target.edges:,}",
            f"{target.entries:,}",
            *map(str, (target.columns, target.classes)),
            f"{target.train:,}",
        ]
        for target in (plan.measured_target(parts), plan.PAPERS)
    ]
    head = ["graph", "nodes n", "edges E", "entries of P, 2 E + n", "features F", "classes", "training nodes"]
    return "## The graph\n\n" + words.table(head, rows)


def _held(parts: dict[str, Any]) -> str:
    rows = [
        [what, _short(what, formula), _short(what, measured), f"{formula / measured:.2f}"]
        for what, formula, measured in plan.checks(parts)
    ]
    return (
        "## The formulas on the graph that was measured\n\n"
        + words.table(["what", "by formula", "measured", "formula / measured"], rows)
        + "\n\nThe fits and their residuals: [benchmarks-scale.md](benchmarks-scale.md)."
    )


def _short(what: str, value: float) -> str:
    return _value(value, "seconds" if " s of" in what else "bytes")


def _value(value: float, unit: str) -> str:
    if unit == "bytes":
        return size(round(value))
    if unit == "seconds":
        return duration(value)
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.5), duration(90), duration(5400), duration(200_000)
    ('0.500 s', '1.50 minutes', '1.50 hours', '2.31 days')
    """
    if seconds != seconds:
        return "-"
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{words.significant(seconds / unit)} {name}"
    return f"{words.significant(seconds)} s"


def _quantities(parts: dict[str, Any]) -> str:
    rows = [[line.what, line.formula, _value(line.value, line.unit)] for line in plan.lines(parts)]
    found = plan.batch(parts)
    return (
        "## What it takes\n\n"
        + words.table(["what", "formula", "papers100M"], rows)
        + f"\n\nA batch is taken to read what one of the measured graph did ({found['nodes']:,} nodes, "
        f"{found['messages']:,} messages): its fan-outs bound it by {found['most']:,} nodes, whatever the size of "
        "the graph. On a larger graph fewer of the drawn nodes meet again, so it reads more than here, and less than "
        "that."
    )


def _machines(parts: dict[str, Any]) -> str:
    rows = []
    for machine in machines.MACHINES:
        found = machines.on_machine(parts, machine)
        if found is None:
            rows.append([machine.name, "**no**", *["-"] * 7])
            continue
        rows.append(
            [
                machine.name,
                "yes",
                str(found["ranks"]),
                f"{100 * found['cached']:.0f} %",
                *(duration(found["times"][name]) for name in ("computing", "disk", "network")),
                found["bound"],
                duration(found["epoch_seconds"]),
            ]
        )
    head = ["machines", "P fits", "ranks on each", "features in memory"]
    head += ["computing a step", "disk", "network", "bound by", "an epoch"]
    machine = machines.MACHINES[0]
    return (
        "## On which machine\n\nAt most a rank for every two cores (one draws, one computes). Each rank makes a P of "
        "its own; what is left of the memory holds features in the system's page cache. Of ranks, the number is taken "
        "that makes the epoch shortest. Several machines hold a part of the features each, dealt by a hash. Disk: "
        f"{machine.disk_reads:,.0f} random pages a second; network: {machine.network * 8 / 1e9:.0f} Gbit/s a machine: "
        "assumptions, not measurements. An epoch is batches / ranks x the slowest of computing, disk and network: the "
        "least that can be hoped for, as cores of one machine share its memory's bandwidth.\n\n"
        + words.table(head, rows)
    )


def _network(parts: dict[str, Any]) -> str:
    rows = []
    for machine in (m for m in machines.MACHINES if m.count > 1):
        found = machines.on_machine(parts, machine)
        if found is None:
            continue
        shares = (
            ("hash", (machine.count - 1) / machine.count),
            ("a partition that leaves 30 %", 0.3),
            ("one that leaves 10 %", 0.1),
        )
        for how, share in shares:
            step = machines.partitioned(parts, machine, share, found["ranks"])
            rows.append(
                [
                    f"{machine.name}, {how}",
                    f"{100 * share:.0f} %",
                    size(round(step["fetched"])),
                    size(round(step["reduced"])),
                    duration(step["network_seconds"]),
                    duration(found["times"]["computing"]),
                ]
            )
    head = [
        "machines",
        "share remote",
        "fetched a rank and step",
        "gradients a step",
        "on the network",
        "computing",
    ]
    return (
        "## The network, when the features are partitioned\n\nFetched: share remote x nodes read x 4 F. Gradients: 2 "
        "(p - 1) / p x 4 x parameters, a ring. On the network: all ranks of a machine together, divided by its "
        "bandwidth. What share a partition leaves remote depends on the graph; 30 and 10 % are examples, that of a "
        "hash is (p - 1) / p.\n\n" + words.table(head, rows)
    )


def _breaks(parts: dict[str, Any]) -> str:
    target, found, machine = plan.PAPERS, plan.batch(parts), machines.MACHINES[0]
    values = {line.what: line.value for line in plan.lines(parts)}
    blocks = -(-target.columns // plan.WIDTH)
    wide, narrow = values["P"], 8.0 * target.entries + 8.0 * target.nodes
    once, often = (values[f"converting {how}, one core"] for how in ("in one run", "with --memory 1GB"))
    items = [
        f"**P, which every rank makes for itself.** It has {target.entries:,} entries, more than 2^31 - 1: offsets "
        "have to be int64, the program keeps columns in the type of the offsets, and twice (as graph and as tensors), "
        f"so P takes {size(round(wide))} where 32-bit columns would take {size(round(narrow))}. It is made in memory "
        "before the first batch; the store itself, mapped once for all ranks, would do for an unweighted graph, whose "
        "entries of P follow from two degrees.",
        f"**The features, where they are not in memory.** A batch reads {found['nodes']:,} random rows in {blocks} "
        f"blocks of {plan.WIDTH} columns, so up to {found['nodes'] * blocks:,.0f} pages: "
        f"{duration(found['nodes'] * blocks / machine.disk_reads)} at {machine.disk_reads:,.0f} a second, against "
        f"{duration(found['seconds'])} of computing. The blocks serve propagation by columns; a store by rows would "
        f"read {found['nodes']:,} pages.",
        "**The conversion reads the edges once more for every run of rows**, "
        f"{values['runs of rows with --memory 1GB']:,.0f} times with `--memory 1GB`: {duration(often)} of one core. "
        f"With {size(round(values['--memory for one run']))} it is one run, {duration(once)}.",
        f"**Inference over all nodes** holds {size(round(values['activations of inference']))} of activations: in a "
        "file on the disk where memory lacks, and that file has to be read at random.",
    ]
    numbered = "\n".join(f"{place}. {item}" for place, item in enumerate(items, 1))
    return (
        f"## Where it breaks first\n\n{numbered}\n\nWhat does not break: columns are node numbers, and "
        f"{target.nodes:,} is below 2^31; offsets are int64 in every store, and the kernels of the sampler and of the "
        "products reckon with offsets beyond 2^31 (`tests/graph/store/test_large_offsets.py` opens a store of so many "
        "entries, draws from its last rows and multiplies them). The certificate's Lanczos steps want P in float64: "
        f"{size(round(16.0 * target.entries))} with 64-bit columns."
    )
