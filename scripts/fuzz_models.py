"""Models, functions and what they leave behind, to spoil."""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path

import numpy as np
from fuzz_subject import Subject, layerlab

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


_NARROW = ["--budget", "20", "--no-remedy", "--json"]

MODELS: dict[str, Subject] = {
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
}
