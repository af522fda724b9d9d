"""Parts that time one of our commands or tasks on the large graph, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench_common import words
from bench_common.command import say

from scale_bench import places, watched

RANK_EPOCHS = 3
LITTLE, LITTLE_BYTES = "128MB", 128 << 20


def convert(quick: bool, threads: int) -> dict[str, Any]:
    """``layerlab graph convert`` of tables into a store."""
    shape = places.products(quick)
    made = places.tables(shape)
    out = places.folder() / f"store-{places.name(shape)}"
    places.forget(out)
    say(f"convert: {shape.edges:,} edges of {shape.nodes:,} nodes")
    taken = watched.command(*places.conversion(made, out), threads=threads)
    answer = json.loads(taken.output)
    told(taken)
    files = {file.name: file.stat().st_size for file in made.iterdir()}
    little = _with_little(made, threads, answer["edges"])
    say(f"    with {LITTLE} in {little['runs']} runs: {little['processor_seconds']:.0f} s of processor")
    return {
        "listed": shape.edges,
        "little": little,
        "columns": shape.columns,
        **{name: answer[name] for name in ("nodes", "edges", "bytes")},
        "classes": len(answer["classes"]),
        "tables_bytes": files,
        "files_bytes": sizes(out),
        **taken.record(),
    }


def _with_little(made: Path, threads: int, edges: int) -> dict[str, Any]:
    """The same in so little memory that the rows are sorted in several runs, each of which reads all edges again."""
    out = places.folder() / "store-little"
    places.forget(out)
    taken = watched.command(*places.conversion(made, out), "--memory", LITTLE, threads=threads)
    places.forget(out)
    # Half of what is allowed holds rows, 4 bytes an entry.
    return {"memory": LITTLE, "runs": -(-8 * edges // (LITTLE_BYTES // 2)), **taken.record()}


def sizes(store: Path) -> dict[str, int]:
    """Bytes of the files of a store, those of features together."""
    found: dict[str, int] = {}
    for file in sorted(store.rglob("*")):
        if file.is_file():
            name = "features" if file.parent != store else file.name
            found[name] = found.get(name, 0) + file.stat().st_size
    return found


def sgc(quick: bool, threads: int) -> dict[str, Any]:
    """An SGC of K = 3 trained from the store."""
    store = places.store(places.products(quick))
    epochs = 2 if quick else 10
    say(f"sgc: K = 3, {epochs} epochs")
    answer, taken = watched.worker("sgc", threads, store=str(store), epochs=epochs)
    told(taken)
    return {**answer, **taken.record()}


def inference(quick: bool, threads: int) -> dict[str, Any]:
    """Every node's output of a GCN, layer by layer."""
    return _inference("gcn", quick, threads)


def inference_gat(quick: bool, threads: int) -> dict[str, Any]:
    """Every node's output of a GAT, layer by layer."""
    return _inference("gat", quick, threads)


def _inference(kind: str, quick: bool, threads: int) -> dict[str, Any]:
    store = places.store(places.products(quick))
    say(f"inference: {kind}")
    answer, taken = watched.worker("inference", threads, store=str(store), kind=kind)
    told(taken)
    answer["own_bytes_within"] = taken.own(*answer.pop("window"))
    return {**answer, **taken.record()}


def ranks(quick: bool, threads: int) -> dict[str, Any]:
    """``layerlab graph train STORE --processes N``: the steps of an epoch with one process and with two."""
    edges, nodes = (50_000, 2_000) if quick else (10_000_000, 400_000)
    shape = places.of_size(edges, nodes)
    store, out = places.store(shape), places.folder() / "run-ranks"
    found: dict[str, Any] = {"edges": edges, "nodes": nodes, "train": shape.train, "epochs": RANK_EPOCHS}
    for count in (1, 2):
        say(f"ranks: {count}")
        places.forget(out)
        options = [
            "--batch-size",
            "1024",
            "--fanout",
            "15,10,5",
            "--hidden",
            "256",
            "--epochs",
            str(RANK_EPOCHS),
        ]
        taken = watched.command(
            *("graph", "train", store, "--out", out, *options, "--processes", str(count), "--json"),
            threads=threads,
        )
        told(taken)
        answer = json.loads(taken.output)
        row = {"step_seconds": answer["step_seconds"], **taken.record()}
        found[str(count)] = {**row, "test_accuracy": answer["metrics"]["test_accuracy"]}
    places.forget(out)
    return found


def certificate(quick: bool, threads: int) -> dict[str, Any]:
    """``layerlab graph inspect STORE``."""
    store = places.store(places.products(quick))
    say("certificate: layerlab graph inspect")
    taken = watched.command("graph", "inspect", store, "--json", threads=threads)
    told(taken)
    answer = json.loads(taken.output)
    return {"spectrum": answer["spectrum"], "findings": answer["findings"], **taken.record()}


def told(taken: watched.Watched) -> None:
    """Say what a process took."""
    say(
        f"    {taken.wall:.0f} s, {taken.processor:.0f} s of processor, peak {words.size(taken.peak)}, "
        f"own {words.size(taken.own())}"
    )
