"""docs/benchmarks-scale.md from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench_common import words
from bench_common.sections import Goals, circumstances, of_parts, page, write_page

from scale_bench import figures, plan_page
from scale_bench.batches import LOADER
from scale_bench.page_sections import epoch, scaling, took

_HEAD = """\
# Graphs at scale: what they cost

Written by `python benchmarks/scale.py --docs` from [the stored results](../benchmarks/results/scale.json); the rules
are those of [benchmarks/README.md](../benchmarks/README.md). The graph is generated
(`benchmarks/scale_bench/generate.py`), seeded, of ogbn-products' size, with degrees by a power law. Each task ran in a
process of its own, watched from outside. Where the load below is above a half, others used the machine's cores too:
wall times are then too long, and seconds of processor, which count this process alone on all cores it had, are what to
compare. Peak memory is the resident memory at most, pages of mapped files included, which the system may drop; own is
what the process itself had asked for, looked at fifty times a second.

What these figures say of papers100M: [scale-plan.md](scale-plan.md). How it works: [scale.md](scale.md).
"""

MINUTES, CONVERT, SGC, POINTS = 300, 2e9, 8e9, 0.5
CERTIFICATE = 900


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks-scale.md`` and ``scale-plan.md`` into ``folder``."""
    write_page(folder, "benchmarks-scale", render(stored), figures.draw(stored["parts"]))
    if plan_page.possible(stored["parts"]):
        write_page(folder, "scale-plan", plan_page.render(stored))


def render(stored: dict[str, Any]) -> str:
    """The page of what `bench_common.store.read` returns."""
    parts = stored["parts"]
    sections = (
        ("gate", _gate),
        ("convert", _convert),
        ("sgc", _sgc),
        ("gcn", epoch),
        ("gat", epoch),
        ("inference", _inference),
        ("inference-gat", _inference),
        ("certificate", _certificate),
        ("accuracy", _accuracy),
        ("accuracy-planted", _accuracy),
        ("ranks", _ranks),
        ("scaling", scaling),
        ("memory", _memory),
    )
    where = circumstances(parts, ("torch_geometric",))
    return page(_HEAD, stored, where, goals(parts), *of_parts(parts, sections))


def goals(parts: dict[str, Any]) -> str:
    """The table of the goals whose parts were measured."""
    reached = Goals()
    if part := parts.get("convert"):
        work = f"convert {words.many(part['listed'])} edges"
        reached.add(work, "under 5 minutes", f"{part['wall_seconds']:.0f} s", part["wall_seconds"] < MINUTES)
        peak = part["peak_bytes"]
        reached.add(f"{work}, peak memory", "under 2 GB", words.size(peak), peak < CONVERT)
    if part := parts.get("sgc"):
        peak = part["peak_bytes"]
        reached.add("train an SGC, K = 3, peak memory", "under 8 GB", words.size(peak), peak < SGC)
    if part := parts.get("gcn"):
        ratio = part["whole"][LOADER]["ratio"]["processor"]
        reached.add(
            *("GCN's epoch, fan-outs 15, 10, 5", "faster than torch_geometric"),
            *(f"{words.span(ratio)} times", ratio["low"] > 1),
        )
    if part := parts.get("certificate"):
        measured = f"{part['wall_seconds'] / 60:.1f} minutes"
        reached.add(
            "inspect it, certificate", "within 15 minutes", measured, part["wall_seconds"] < CERTIFICATE
        )
    for name in ("accuracy", "accuracy-planted"):
        if part := parts.get(name):
            found = part["difference"]
            work = f"mini-batches against full batches, {part['name']}"
            reached.add(work, f"within {POINTS} points", _points(found), abs(found["mean"]) <= POINTS)
    return reached.table()


def _points(found: dict[str, float]) -> str:
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _gate(part: dict[str, Any]) -> str:
    rows = [[name, f"{value:.1e}"] for name, value in part["rows"].items()]
    return (
        "## The gate\n\nOn a small graph of the same kind, before anything is timed: the largest difference, of the "
        f"largest number of the tensor, in float32; allowed {part['allowed']:.0e}. What must be equal to the bit or "
        "the entry has 0.\n\n" + words.table(["what is compared", "difference"], rows)
    )


def _convert(part: dict[str, Any]) -> str:
    tables = sum(part["tables_bytes"].values())
    rows = [[name, words.size(size)] for name, size in part["files_bytes"].items()]
    return (
        f"## Conversion\n\n`layerlab graph convert`: {words.many(part['listed'])} edges as listed in Parquet, "
        f"{part['edges']:,} distinct ones, {part['nodes']:,} nodes, {part['columns']} features, {part['classes']} "
        f"classes: {took(part)}. {words.size(tables)} of tables became {words.size(part['bytes'])} of store:\n\n"
        + words.table(["file", "size"], rows)
    )


def _sgc(part: dict[str, Any]) -> str:
    spread = part["propagation"]
    return (
        f"## SGC\n\n`layerlab graph train` with K = {part['steps']} from the store, {part['epochs']} epochs of batches "
        f"of 1,024, every validation and test node judged after each: {took(part)}. Of that the propagation of all "
        f"features by P, P made on the way, took {words.significant(spread['processor_seconds'])} s of processor. Test "
        f"accuracy {100 * part['metrics']['test_accuracy']:.1f} %: only the cost is meant here, features are mostly "
        "noise and the epochs few."
    )


def _inference(part: dict[str, Any]) -> str:
    times = part["times"]
    heading = "Inference layer by layer" if part["kind"] == "gcn" else "The same for a GAT"
    return (
        f"## {heading}\n\nThe outputs of all nodes of a {part['kind'].upper()} of widths "
        f"{', '.join(map(str, part['widths']))}, every neighbour read, each layer computed once: "
        f"{words.significant(times['processor_seconds'])} s of processor, {words.significant(times['wall_seconds'])} s "
        f"by the wall, and {words.significant(part['operator']['processor_seconds'])} s of processor before that for "
        f"its operator. The whole process: {took(part)}."
    )


def _certificate(part: dict[str, Any]) -> str:
    findings = "\n".join(f"- {line}" for line in part["findings"])
    return (
        f"## The certificate\n\n`layerlab graph inspect` of the store: {took(part)}. It found:\n\n{findings}"
    )


def _accuracy(part: dict[str, Any]) -> str:
    count, settings = len(part["rows"]), part["settings"]
    means = {
        label: {
            what: sum(row[label][what] for row in part["rows"]) / count
            for what in ("accuracy", "processor_seconds")
        }
        for label in ("full", "mini")
    }
    rows = [
        [
            {"full": "full batches", "mini": f"mini-batches of {settings['size']:,}"}[label],
            str(settings[label]),
            _best(part, label),
            f"{found['accuracy']:.2f}",
            words.significant(found["processor_seconds"]),
        ]
        for label, found in means.items()
    ]
    return (
        f"## Accuracy of mini-batches: {part['name']}\n\nA GCN of two layers, fan-outs "
        f"{' and '.join(map(str, settings['fanouts']))}, judged at the epoch that validation chose; {count} seeds, the "
        "same splits, weights and settings. Mini-batches less full batches, in points of test accuracy, 95 per cent "
        f"interval of the paired difference: {_points(part['difference'])}. Seconds of processor are those of a "
        "training with its evaluations.\n\n"
        + words.table(["training", "epochs", "best of each seed", "test accuracy, %", "s of processor"], rows)
        + _earlier(part)
    )


def _best(part: dict[str, Any], label: str) -> str:
    return ", ".join(str(row[label]["best_epoch"]) for row in part["rows"])


def _earlier(part: dict[str, Any]) -> str:
    """What was tried before, where the settings above were chosen after it."""
    tries = [
        f"With {tried['why']}, {tried['epochs']['full']} epochs of full batches reached "
        f"{tried['full']['accuracy']:.2f} % and {tried['epochs']['mini']} of mini-batches "
        f"{tried['mini']['accuracy']:.2f} % ({tried['seeds']} seed{'s'[: tried['seeds'] - 1]}); the best epochs "
        "were the last, or nearly: neither training had come to rest."
        for tried in part.get("earlier", [])
    ]
    return "\n\nTried before. " + " ".join(tries) if tries else ""


def _ranks(part: dict[str, Any]) -> str:
    rows = [
        [
            count,
            words.significant(part[count]["step_seconds"]),
            words.significant(part["1"]["step_seconds"] / part[count]["step_seconds"]),
            words.significant(part[count]["wall_seconds"]),
            words.significant(part[count]["processor_seconds"]),
        ]
        for count in ("1", "2")
    ]
    head = [
        "processes",
        "s by the wall, an epoch's steps",
        "times as fast",
        "s, the whole run",
        "s of processor",
    ]
    return (
        "## One process and two\n\n`layerlab graph train STORE --processes N`, a GCN of three layers of width 256 on "
        f"{words.many(part['edges'])} listed edges of {words.many(part['nodes'])} nodes, {part['train']:,} of which "
        f"train; {part['epochs']} epochs with their evaluations, which the first process does alone. Every process "
        "draws its batches in a thread of its own, so that on two cores two processes have no core to spare.\n\n"
        + words.table(head, rows)
    )


def _memory(part: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['label']}, {row['model'].upper()}, "
            f"{'batches of ' + format(row['size'], ',') if row['size'] else 'full batch'}",
            words.size(row["estimate"]["total"]),
            words.size(row["above_bytes"]),
            words.significant(row["ratio"]),
        ]
        for row in part["rows"]
    ]
    return (
        "## The estimate of memory\n\nWhat the command reckons before it starts, and what the process asked for above "
        "what it held with its data loaded, over a few steps and an evaluation.\n\n"
        + words.table(["training", "estimated", "measured", "measured / estimated"], rows)
    )
