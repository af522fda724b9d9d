"""What is spoiled: small files of every form that layerlab reads, and the command (or function) that reads them."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
import signal
import tarfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Subject:
    """One reader and its files.

    Attributes:
        make: writes the sound files into an empty folder.
        read: the words of a command, run in that folder; or a function of it.
        files: patterns of the files that are spoiled.
        statuses: exit statuses that are answers, besides 2 with its line.
        words: places in the command that are spoiled too.
    """

    make: Callable[[Path], None]
    read: Sequence[str] | Callable[[Path], object]
    files: Sequence[str]
    statuses: Sequence[int] = (0,)
    words: Sequence[int] = ()


def layerlab(folder: Path, *words: str) -> None:
    """Run a command in a folder; it must succeed."""
    from layerlab.cli import app

    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        app([*words], standalone_mode=False)


# ---------------------------------------------------------------- graphs

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
        train_run("data", "gcn", out=Path("run"), overrides={"epochs": 4, "hidden": 3}, on_epoch=_stop)


def _stop(epoch: int, *_: object) -> None:
    if epoch == 2:
        signal.raise_signal(signal.SIGINT)


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


# ---------------------------------------------------------------- models and functions

_NET = """import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]

def loss(y):
    return y.square().sum()
"""
_FUNCTION = """import torch

def f(x):
    weights = torch.arange(1.0, 5.0)
    return (x * weights).sum(-1)

def g(x):
    return -x.square().sum(-1)
"""


def _net(folder: Path) -> None:
    (folder / "net.py").write_text(_NET)
    np.savez(folder / "x.npz", input=np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32))
    np.savez(folder / "a.npz", x=np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32))


def _function(folder: Path) -> None:
    (folder / "f.py").write_text(_FUNCTION)
    np.save(folder / "p.npy", np.array([0.1, -0.5, 0.3, 2.0]))
    (folder / "p.json").write_text(json.dumps({"logits": [0.1, -0.5, 0.3, 2.0]}))
    (folder / "g.json").write_text(json.dumps({"mean": [0.1, -0.5], "std": [1.0, 2.0]}))


_OPTIMISE = ["estimator", "optimise", "f.py:f", "--bits", "4", "--out", "run", "--batch", "8"]


def _optimised(folder: Path) -> None:
    _function(folder)
    layerlab(folder, *_OPTIMISE, "--budget", "40")


_POLICY = [
    "estimator",
    "policy",
    "CartPole-v1",
    "--steps",
    "300",
    "--episodes",
    "4",
    "--batch",
    "8",
    "--hidden",
    "4",
]
_POLICY += ["--out", "run", "--jobs", "1", "--max-episode-steps", "20", "--report", "--seeds"]


def _policy(folder: Path) -> None:
    from layerlab.estimators.policy.runs import checkpoint_of
    from layerlab.estimators.policy.settings import Settings
    from layerlab.estimators.policy.source import Source
    from layerlab.estimators.policy.training import train

    layerlab(folder, *_POLICY, "1")
    config = json.loads((folder / "run" / "run.json").read_text())["config"]
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in config["settings"].items()}
    (folder / "run" / "checkpoints").mkdir(exist_ok=True)
    source = Source(
        **{n: tuple(map(tuple, v)) if isinstance(v, list) else v for n, v in config["environment"].items()}
    )
    with contextlib.suppress(KeyboardInterrupt):
        train(
            source,
            Settings(**fields, baseline="value"),
            seed=1,
            checkpoint=checkpoint_of(folder / "run", "value-0001"),
            on_update=lambda _: signal.raise_signal(signal.SIGINT),
        )


def _monitored(folder: Path) -> None:
    import torch
    from torch import nn

    from layerlab.gradflow.monitoring.monitor import Monitor

    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, every=1) as monitor:
        for _ in range(3):
            with monitor.step():
                model(torch.ones(4, 3)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    monitor.record.save(folder / "record.json")


def _record(folder: Path) -> object:
    from layerlab.gradflow.monitoring.page import page
    from layerlab.gradflow.monitoring.record import Record

    return page(Record.load(folder / "record.json"))


# ---------------------------------------------------------------- vectors


def _vectors(folder: Path) -> None:
    from safetensors.numpy import save_file

    rows = np.random.default_rng(0).normal(size=(30, 6))
    layerlab(folder, "codebook", "make", "--dim", "16", "--count", "24", "--out", "codes.npz")
    layerlab(
        folder,
        "codebook",
        "make",
        "--dim",
        "6",
        "--count",
        "9",
        "--construction",
        "random-lines",
        "--out",
        "lines.npz",
    )
    np.save(folder / "rows.npy", rows)
    np.savez(folder / "rows.npz", rows=rows)
    (folder / "rows.csv").write_text(
        "a,b,c,d,e,f\n" + "".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in rows)
    )
    save_file({"rows": rows.astype(np.float32), "bias": rows[0]}, folder / "rows.safetensors")


# ---------------------------------------------------------------- pictures


def _pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("images", "masks"):
        (folder / place).mkdir()
    for number, suffix in enumerate(("png", "png", "jpg", "tif", "bmp", "png")):
        mask = np.zeros((20, 24), np.uint8)
        mask[4 : 10 + number, 5:15] = 1
        pixels = (rng.random((20, 24, 3)) * 80 + 150 * mask[:, :, None]).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"p{number}.{suffix}")
        Image.fromarray(mask).save(folder / "masks" / f"p{number}.png")
    (folder / "classes.json").write_text(
        json.dumps({"classes": {"back": [0], "thing": ["1-3", 7]}, "ignore": [9]})
    )
    (folder / "classes.csv").write_text("value,name\n0,back\n1,thing\n9,ignore\n")


_SMALL = ["--size", "16", "--widths", "2,2", "--batch", "2", "--augment", "none"]
_SEGMENT = ["segment", "train", "images", "masks", *_SMALL, "--epochs", "2", "--threads", "1", "--out", "run"]
_SEGMENT_RACE = [
    "segment",
    "race",
    "images",
    "masks",
    *_SMALL,
    "--epochs",
    "2",
    "--arms",
    "on,off",
    "--jobs",
    "1",
]
_SEGMENT_RACE += ["--out", "race", "--seeds"]


def _segmented(folder: Path) -> None:
    _pictures(folder)
    layerlab(folder, *_SEGMENT)


def _segment_begun(folder: Path) -> None:
    from layerlab.segmentation import runs

    _pictures(folder)
    fit = runs.fit
    runs.fit = lambda *a, on_epoch=None, **k: fit(*a, on_epoch=lambda e, _: _stop(e + 1), **k)  # type: ignore[assignment]
    with contextlib.suppress(KeyboardInterrupt):
        layerlab(folder, *_SEGMENT)
    runs.fit = fit


def _predicted(folder: Path) -> None:
    _segmented(folder)
    layerlab(folder, *_PREDICT)


_PREDICT = ["segment", "predict", "run", "images", "--out", "out", "--confidence"]


def _segment_race(folder: Path) -> None:
    _pictures(folder)
    layerlab(folder, *_SEGMENT_RACE, "1")


def _archives(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, masks = {}, {}
    for name in ("Abyssinian_1", "beagle_3"):
        for members, form, pixels in (
            (images, "JPEG", rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)),
            (masks, "PNG", np.resize(np.array([1, 2, 3], np.uint8), (20, 24))),
        ):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, form)
            members[f"images/{name}.jpg" if form == "JPEG" else f"annotations/trimaps/{name}.png"] = (
                stream.getvalue()
            )
    for file, members in (("images.tar", images), ("masks.tar", masks)):
        with tarfile.open(folder / file, "w") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def _converted(folder: Path) -> object:
    from layerlab.segmentation.conversion import RECIPES, convert

    shutil.rmtree(folder / "target", ignore_errors=True)
    (folder / "target").mkdir()
    return convert(RECIPES["pets"], folder / "images.tar", folder / "masks.tar", folder / "target")


# ---------------------------------------------------------------- the main job

_REPRODUCE = ["reproduce", "--only", "projection", "--seeds", "2", "--jobs", "1", "--out", "out"]


def _reproduced(folder: Path) -> None:
    layerlab(folder, *_REPRODUCE)


_CHECK = ["segment", "check", "images", "masks", "--json"]
_INSPECT = ["codebook", "inspect"]
_NARROW = ["--budget", "20", "--no-remedy", "--json"]

SUBJECTS: dict[str, Subject] = {
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
    "planetoid": Subject(_planetoid, _assembled, ["*"]),
    "model-inputs": Subject(
        _net, ["model", "inspect", "net.py:model", "--inputs", "x.npz", *_NARROW], ["x.npz"], (0,), [2]
    ),
    "model-attention": Subject(
        _net,
        ["model", "attention", "net.py:Net", "--inputs", "a.npz", "--budget", "1", "--json"],
        ["a.npz"],
    ),
    "model-shape": Subject(
        _net, ["model", "inspect", "net.py:model", "--input-shape", "7,6", *_NARROW], [], (0,), [4, 4, 4, 2]
    ),
    "model-code": Subject(
        _net,
        ["model", "inspect", "net.py:model", "--loss", "net.py:loss", "--input-shape", "7,6", *_NARROW],
        ["net.py"],
        (0,),
        [4],
    ),
    "objective": Subject(
        _function,
        ["estimator", "inspect", "f.py:f", "--bits", "4", "--no-curve", "--json"],
        ["f.py"],
        (0,),
        [2],
    ),
    "parameters-npy": Subject(
        _function,
        ["estimator", "inspect", "f.py:f", "--bits", "4", "--parameters", "p.npy", "--no-curve", "--json"],
        ["p.npy"],
    ),
    "parameters-json": Subject(
        _function,
        ["estimator", "inspect", "f.py:f", "--bits", "4", "--parameters", "p.json", "--no-curve", "--json"],
        ["p.json"],
    ),
    "parameters-normal": Subject(
        _function,
        [
            "estimator",
            "inspect",
            "f.py:g",
            "--gaussian",
            "2",
            "--parameters",
            "g.json",
            "--repetitions",
            "20",
            "--json",
        ],
        ["g.json"],
    ),
    "space": Subject(
        _function,
        ["estimator", "inspect", "f.py:f", "--categories", "4x3", "--no-curve", "--json"],
        [],
        (0,),
        [4],
    ),
    "optimise": Subject(
        _optimised, [*_OPTIMISE, "--budget", "60", "--resume"], ["run/run.json", "run/evaluations.jsonl"]
    ),
    "policy": Subject(_policy, [*_POLICY, "2"], ["run/run.json", "run/*/*"]),
    "monitor": Subject(_monitored, _record, ["record.json"]),
    "codebook-archive": Subject(_vectors, [*_INSPECT, "codes.npz", "--json"], ["codes.npz"]),
    "codebook-lines": Subject(_vectors, [*_INSPECT, "lines.npz"], ["lines.npz"]),
    "vectors-npy": Subject(_vectors, [*_INSPECT, "rows.npy", "--report", "--out", "page"], ["rows.npy"]),
    "vectors-npz": Subject(_vectors, [*_INSPECT, "rows.npz"], ["rows.npz"]),
    "vectors-csv": Subject(_vectors, [*_INSPECT, "rows.csv", "--json"], ["rows.csv"]),
    "vectors-safetensors": Subject(_vectors, [*_INSPECT, "rows.safetensors"], ["rows.safetensors"]),
    "points-npy": Subject(
        _vectors,
        ["codebook", "project", "rows.npy", "--dim", "3", "--out", "o.npy"],
        ["rows.npy"],
        (0, 1),
        [4],
    ),
    "points-csv": Subject(
        _vectors,
        ["codebook", "project", "rows.csv", "--dim", "3", "--report", "--json"],
        ["rows.csv"],
        (0, 1),
    ),
    "pictures": Subject(_pictures, _CHECK, ["images/*", "masks/*"], (0, 1)),
    "pictures-report": Subject(
        _pictures, [*_CHECK[:-1], "--report", "--out", "page"], ["images/*", "masks/*"], (0, 1)
    ),
    "classes-json": Subject(_pictures, [*_CHECK, "--classes", "classes.json"], ["classes.json"], (0, 1)),
    "classes-csv": Subject(_pictures, [*_CHECK, "--classes", "classes.csv"], ["classes.csv"], (0, 1)),
    "classes-words": Subject(
        _pictures,
        [
            *_CHECK,
            "--class",
            "thing=1,#87ceeb",
            "--class",
            "rest=0,2-4",
            "--ignore",
            "9",
            "--stratify",
            "block:2",
        ],
        [],
        (0, 1),
        [6, 8, 10, 12],
    ),
    "segment-train": Subject(_pictures, [*_SEGMENT, "--skip"], ["images/*", "masks/*"]),
    "segment-resumed": Subject(_segment_begun, _SEGMENT, ["run/*"]),
    "segment-run": Subject(_segmented, _PREDICT, ["run/run.json", "run/*.safetensors", "images/*"], (0, 1)),
    "segment-page": Subject(_segmented, _SEGMENT, ["run/run.json", "run/*.safetensors"]),
    "segment-predicted": Subject(
        _predicted, _PREDICT, ["out/run.json", "out/cells/*", "out/*/*.png"], (0, 1)
    ),
    "segment-race": Subject(
        _segment_race, [*_SEGMENT_RACE, "2"], ["race/run.json", "race/cells/*", "race/*/*", "race/*/*/*"]
    ),
    "archives": Subject(_archives, _converted, ["*.tar"]),
    "reproduce": Subject(
        _reproduced, _REPRODUCE, ["out/run.json", "out/claims/run.json", "out/claims/cells/*"]
    ),
}
