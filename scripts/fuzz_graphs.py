"""Graphs to spoil: edge lists, folders, archives, runs and races."""

from __future__ import annotations

import contextlib
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
from fuzz_subject import Subject, layerlab, stop

_EDGES = [(i, (i * 7 + k) % 24) for i in range(24) for k in (1, 3) if i != (i * 7 + k) % 24]


def _edge_list(folder: Path) -> None:
    rows = [f"n{a},n{b},{1 + (a + b) % 3}" for a, b in _EDGES]
    (folder / "edges.csv").write_text("source,target,weight\n" + "\n".join(rows) + "\n")


def _graph_npz(folder: Path) -> None:
    from layerlab.graph import Graph
    from layerlab.graph.npz import to_npz

    source, target = np.array(_EDGES).T
    to_npz(Graph.from_edges(source, target, num_nodes=24), folder / "graph.npz")


def _graph_folder(folder: Path) -> None:
    place = folder / "data"
    place.mkdir()
    rng = np.random.default_rng(0)
    rows = ["id,label,split,a,b"]
    for node in range(24):
        part = ("train", "val", "test")[node // 2 % 3]
        rows.append(f"n{node},{'xy'[node % 2]},{part},{rng.random():.3f},{node % 2}")
    (place / "nodes.csv").write_text("\n".join(rows) + "\n")
    (place / "edges.csv").write_text("source,target\n" + "\n".join(f"n{a},n{b}" for a, b in _EDGES) + "\n")


def _graph_features(folder: Path, suffix: str) -> None:
    from scipy import sparse

    _graph_folder(folder)
    nodes = folder / "data" / "nodes.csv"
    nodes.write_text("".join(",".join(line.split(",")[:3]) + "\n" for line in nodes.read_text().splitlines()))
    features = np.random.default_rng(0).random((24, 5))
    if suffix == "npy":
        np.save(folder / "data" / "features.npy", features)
    else:
        sparse.save_npz(folder / "data" / "features.npz", sparse.csr_matrix(features * (features > 0.5)))


def _tables(folder: Path) -> None:
    from pyarrow import csv, parquet

    _graph_folder(folder)
    for name in ("nodes", "edges"):
        parquet.write_table(csv.read_csv(folder / "data" / f"{name}.csv"), folder / f"{name}.parquet")


_CONVERT = ["graph", "convert", "data/edges.csv", "--nodes", "data/nodes.csv", "--out", "store"]


def _store(folder: Path) -> None:
    _graph_folder(folder)
    layerlab(folder, *_CONVERT)


def _cached(folder: Path) -> None:
    from layerlab.graph.archive import encode
    from layerlab.graph.datasets import load

    _graph_folder(folder)
    (folder / "cache").mkdir()
    (folder / "cache" / "citeseer.npz").write_bytes(encode(load(folder / "data")))


def _graph_run(folder: Path) -> None:
    _graph_folder(folder)
    layerlab(
        folder, "graph", "train", "data", "--model", "gat", "--epochs", "2", "--hidden", "2", "--out", "run"
    )


def _graph_begun(folder: Path) -> None:
    from layerlab.graph.runs import train_run

    _graph_folder(folder)
    with contextlib.suppress(KeyboardInterrupt), contextlib.chdir(folder):
        train_run("data", "gcn", out=Path("run"), overrides={"epochs": 4, "hidden": 3}, on_epoch=stop)


def _graph_race(folder: Path) -> None:
    _graph_folder(folder)
    layerlab(folder, *_GRAPH_RACE[:-1], "1")


_GRAPH_RACE = ["graph", "race", "data", "--models", "sgc,mlp", "--jobs", "1", "--out", "race", "--seeds", "2"]


def _planetoid(folder: Path) -> None:
    from scipy import sparse

    x = sparse.csr_matrix(np.eye(6, 4, dtype=np.float32))
    y = np.eye(6, 2, dtype=np.int32)
    graph = defaultdict(list, {node: [(node + 1) % 9] for node in range(9)})
    parts = {"x": x[:3], "y": y[:3], "allx": x, "ally": y, "tx": x[:3], "ty": y[:3], "graph": graph}
    for name, value in parts.items():
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "test.index.csv").write_text("6\n7\n8\n")


def _assembled(folder: Path) -> object:
    from layerlab.errors import UserError
    from layerlab.graph.planetoid import assemble

    files = {path.name.rsplit(".", 1)[0]: path for path in folder.iterdir()}
    try:
        content = {name: path.read_bytes() for name, path in files.items()}
    except OSError as error:
        raise UserError("what is read is bytes here, not files") from error
    if missing := {"x", "y", "allx", "ally", "tx", "ty", "graph", "test.index"} - content.keys():
        raise UserError(f"the caller sees to it that all files are there, not {missing}")
    return assemble("small", content, source="here")


GRAPHS: dict[str, Subject] = {
    "edge-list": Subject(
        _edge_list, ["graph", "inspect", "edges.csv", "--depth", "3", "--json"], ["edges.csv"]
    ),
    "edge-list-claims": Subject(
        _edge_list,
        ["claims", "check", "--on", "edges.csv", "graph.lambda-max", "--json"],
        ["edges.csv"],
        (0, 1),
        [4],
    ),
    "graph-npz": Subject(_graph_npz, ["graph", "inspect", "graph.npz", "--depth", "3"], ["graph.npz"]),
    "graph-folder": Subject(
        _graph_folder, ["graph", "inspect", "data", "--depth", "3", "--json"], ["data/*"]
    ),
    "graph-folder-train": Subject(
        _graph_folder,
        ["graph", "train", "data", "--model", "sgc", "--epochs", "2", "--out", "run"],
        ["data/*"],
    ),
    "features-npy": Subject(
        lambda f: _graph_features(f, "npy"),
        ["graph", "inspect", "data", "--depth", "3"],
        ["data/features.npy"],
    ),
    "features-npz": Subject(
        lambda f: _graph_features(f, "npz"),
        ["graph", "inspect", "data", "--depth", "3"],
        ["data/features.npz"],
    ),
    "graph-cache": Subject(_cached, ["graph", "inspect", "citeseer", "--depth", "3"], ["cache/citeseer.npz"]),
    "graph-run": Subject(
        _graph_run,
        ["graph", "predict", "run", "data", "--out", "p.csv"],
        ["run/run.json", "run/*.safetensors", "data/*"],
    ),
    "graph-attention": Subject(
        _graph_run,
        ["graph", "attention", "run", "data", "--report", "--out", "page"],
        ["run/run.json", "data/*"],
    ),
    "graph-resumed": Subject(
        _graph_begun,
        ["graph", "train", "data", "--model", "gcn", "--epochs", "4", "--hidden", "3", "--out", "run"],
        ["run/*"],
    ),
    "graph-race": Subject(_graph_race, _GRAPH_RACE, ["race/run.json", "race/cells/*"]),
    "convert-csv": Subject(_graph_folder, _CONVERT, ["data/*"]),
    "convert-parquet": Subject(
        _tables,
        ["graph", "convert", "edges.parquet", "--nodes", "nodes.parquet", "--out", "store"],
        ["*.parquet"],
    ),
    "store": Subject(
        _store, ["graph", "inspect", "store", "--depth", "3", "--json"], ["store/*", "store/features/*"]
    ),
    "store-train": Subject(
        _store,
        ["graph", "train", "store", "--epochs", "2", "--batch-size", "4", "--fanout", "2,2", "--out", "run"],
        ["store/*", "store/features/*"],
        (0,),
        [6, 8],
    ),
    "planetoid": Subject(_planetoid, _assembled, ["*"]),
}
