"""Parts that compare: epochs with torch_geometric's, memory with its estimate, mini-batches with full batches."""

from __future__ import annotations

import json
from typing import Any

from bench_common import timing, words
from bench_common.command import say

from layerlab.lab.files import write_atomic
from scale_bench import places, watched
from scale_bench.batches import FANOUTS, SIZE
from scale_bench.measuring import told

# Memory: label, data ("small" is a generated graph), model, settings, batch size (0: full batches), fan-outs.
WIDE = {"hidden": 256, "layers": 3, "dropout": 0.5}
CASES: tuple[tuple[str, str, str, dict[str, Any], int, tuple[int, ...]], ...] = (
    ("PubMed", "pubmed", "gcn", {}, 0, ()),
    ("PubMed", "pubmed", "gat", {"hidden": 8, "dropout": 0.6}, 0, ()),
    ("1 M edges", "small", "gcn", WIDE, 0, ()),
    ("1 M edges", "small", "gcn", WIDE, SIZE, FANOUTS),
    ("1 M edges", "small", "gat", {**WIDE, "hidden": 32}, SIZE, FANOUTS),
    ("1 M edges", "small", "sgc", {"steps": 3}, SIZE, ()),
    ("products", "large", "gcn", WIDE, SIZE, FANOUTS),
    ("products", "large", "sgc", {"steps": 3}, SIZE, ()),
)
SMALL_EDGES, SMALL_NODES = 1_000_000, 50_000


def epoch(kind: str, quick: bool, threads: int, rounds: int) -> dict[str, Any]:
    """Batches of an epoch, ours and torch_geometric's in turn."""
    store = places.store(places.products(quick))
    say(f"{kind}: {rounds} rounds of batches")
    size = SIZE // 8 if quick else SIZE
    found, taken = watched.worker("race", threads, store=str(store), kind=kind, rounds=rounds, size=size)
    for work in ("whole", "alone"):
        for name, row in found[work].items():
            say(f"    {work}, {name}: {row['median']['processor']:.2f} s of processor a batch")
    told(taken)
    return {**found, **taken.record()}


def gcn(quick: bool, threads: int) -> dict[str, Any]:
    """The GCN's epoch."""
    return epoch("gcn", quick, threads, 2 if quick else 7)


def gat(quick: bool, threads: int) -> dict[str, Any]:
    """The GAT's epoch."""
    return epoch("gat", quick, threads, 2 if quick else 5)


def memory(quick: bool, threads: int) -> dict[str, Any]:
    """Estimates beside peaks: of the process's own pages, above what it held with its data loaded."""
    rows = []
    for label, data, model, options, size, fanouts in CASES:
        if quick and data != "small":
            continue
        shape = places.of_size(SMALL_EDGES // (10 if quick else 1), SMALL_NODES // (10 if quick else 1))
        if data == "large":
            shape = places.products(quick)
        source = data if data == "pubmed" else str(places.store(shape))
        say(f"memory: {model} on {label}, {f'batches of {size:,}' if size else 'full batch'}")
        request = {"data": source, "model": model, "options": options, "size": size, "fanouts": list(fanouts)}
        answer, taken = watched.worker("needs", threads, **request)
        idle = taken.own(*answer.pop("idle_window"))
        phases = {name: taken.own(*window) - idle for name, window in answer.pop("windows").items()}
        above = max(phases.values())
        ratio = above / answer["estimate"]["total"]
        own = {"own_idle_bytes": idle, "phases": phases, "above_bytes": above, "ratio": ratio}
        say(f"    {words.size(above)} above, estimated {words.size(answer['estimate']['total'])}")
        rows.append({"label": label, "model": model, "size": size, **answer, **own})
    return {"rows": rows}


RACES: dict[str, dict[str, Any]] = {
    "PubMed": {"data": "pubmed", "size": 20, "full": 200, "mini": 200, "hidden": 0},
    "arxiv-sized, planted communities": {
        "data": "planted",
        "size": SIZE,
        "full": 600,
        "mini": 30,
        "hidden": 64,
    },
}
SEEDS = {"PubMed": 5, "arxiv-sized, planted communities": 3}


def accuracy(quick: bool, threads: int) -> dict[str, Any]:
    """Test accuracy in mini-batches against full batches on PubMed, seed by seed."""
    return _accuracy("PubMed", quick, threads)


def accuracy_planted(quick: bool, threads: int) -> dict[str, Any]:
    """The same on a graph of ogbn-arxiv's size with planted communities."""
    return _accuracy("arxiv-sized, planted communities", quick, threads)


def _accuracy(name: str, quick: bool, threads: int) -> dict[str, Any]:
    request, seeds = {**RACES[name], "fanouts": [15, 10]}, range(2 if quick else SEEDS[name])
    if quick:
        request |= {"data": "planted/40", "full": 3, "mini": 2}
    rows = []
    for seed in seeds:
        # What an interrupted run has measured stays.
        kept = places.folder() / f"accuracy-{request['data'].replace('/', '-')}-{seed}-{threads}.json"
        if not kept.exists():
            answer, taken = watched.worker("accuracy", threads, seed=seed, **request)
            found = {**answer, "processor_seconds": taken.processor}
            write_atomic(kept, json.dumps(found).encode())
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
        full, mini = (rows[-1][label]["accuracy"] for label in ("full", "mini"))
        say(f"{name}, seed {seed}: {full:.2f} full, {mini:.2f} in mini-batches")
    for seed in seeds:
        (places.folder() / f"accuracy-{request['data'].replace('/', '-')}-{seed}-{threads}.json").unlink()
    pairs = [[row[label]["accuracy"] for row in rows] for label in ("mini", "full")]
    return {"name": name, "settings": request, "rows": rows, "difference": timing.difference(*pairs)}
