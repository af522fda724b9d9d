"""An epoch of mini-batches on a store: our training's batch in its pieces, and the same work with torch_geometric."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_common import timing
from torch import Tensor, nn

from layerlab.graph.layers import neighbourhoods
from layerlab.graph.model_loss import ModelLoss
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.sampling import Batching, BatchTask, Inputs, Sampler
from layerlab.graph.settings import Settings
from layerlab.graph.store import open_store
from layerlab.graph.task import Parts, build_model, optimizer_of
from layerlab.lab import optimizing
from layerlab.lab.training import stream_seed
from scale_bench import clocks, peers, plain

FANOUTS, SIZE, WIDTH = (15, 10, 5), 1024, 256
SETTINGS = {
    "gcn": Settings("gcn", hidden=WIDTH, layers=3, dropout=0.5),
    "gat": Settings("gat", hidden=WIDTH // 8, heads=8, layers=3, dropout=0.5),
}
OURS = "layerlab"
LOADER = "torch_geometric, a sampler in numpy"
EDGES = "torch_geometric, our blocks as edges"
MATRICES = "torch_geometric, our blocks as matrices"


class Batches:
    """A data set cut into batches as a training does it, in the foreground, and what each contestant makes of one."""

    def __init__(self, dataset: NodeDataset, kind: str, settings: Settings, size: int, seed: int = 0) -> None:
        assert dataset.split is not None
        self.kind, self.settings, self.size = kind, settings, size
        self.inputs, self.labels = Inputs(dataset.features), torch.from_numpy(dataset.labels.copy())
        graph = dataset.graph
        operator = graph.normalized_adjacency() if kind == "gcn" else neighbourhoods(graph)
        self.sampler = Sampler(operator, FANOUTS, scaled=kind == "gcn")
        self.plain = plain.PlainSampler(graph.indptr, graph.indices, FANOUTS, seed)
        torch.manual_seed(seed)
        self.train = torch.from_numpy(dataset.split.train.copy())
        self.order = self.train[torch.randperm(len(self.train))]
        self.shape = (dataset.num_features, dataset.num_classes)
        self.place = dict.fromkeys((OURS, LOADER, EDGES, MATRICES), 0)
        self.seen: dict[str, list[dict[str, int]]] = {}

    @property
    def count(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.train) // self.size)

    def model(self) -> nn.Module:
        """A model of ours with the weights that everyone begins with."""
        torch.manual_seed(1)
        return build_model(self.settings, *self.shape)

    def nodes(self, name: str) -> tuple[Tensor, int]:
        """The next batch of a contestant: all go through the same ones."""
        place = self.place[name]
        self.place[name] = (place + 1) % self.count
        return self.order[place * self.size : (place + 1) * self.size], place

    def ours(self) -> Callable[[], object]:
        """Draw, transpose, gather, step, one after the other."""
        model = self.model()
        optimizer = optimizer_of(model, self.settings)

        def step() -> float:
            nodes, place = self.nodes(OURS)
            field = self.sampler.field(nodes, stream_seed(0, place))
            x = self.inputs.rows(field.inputs)
            messages = sum(block.nnz for block in field.operators)
            self._note(OURS, len(field.inputs), messages)
            loss = ModelLoss(model, x, field.operators).backward(self.labels[nodes])
            optimizing.step(optimizer)
            optimizing.zero_grad(optimizer)
            return loss

        return step

    def loader(self) -> Callable[[], object]:
        """What a user without a compiled sampler has: subgraphs drawn in numpy, layers trimmed."""
        net = peers.Peer(self.model(), self.kind, given=False)
        optimizer = torch.optim.Adam(net.parameters(), self.settings.learning_rate, fused=True)

        def step() -> float:
            nodes, _ = self.nodes(LOADER)
            part = self.plain.sample(nodes.numpy())
            x = self.inputs.rows(torch.from_numpy(part.nodes))
            self._note(LOADER, len(part.nodes), sum(part.edges_per_hop))
            return peers.trained_step(net, lambda: net.on_subgraph(x, part), self.labels[nodes], optimizer)

        return step

    def blocks(self, name: str) -> Callable[[], object]:
        """torch_geometric's layers on our blocks; `Prepared` draws and gathers them, which is not counted."""
        net = peers.Peer(self.model(), self.kind, given=True)
        optimizer = torch.optim.Adam(net.parameters(), self.settings.learning_rate, fused=True)
        form = peers.edges_of if name == EDGES else peers.matrices_of
        forward = net.on_edges if name == EDGES else net.on_matrices
        nodes, place = self.nodes(name)
        field = self.sampler.field(nodes, stream_seed(0, place))
        x, given = self.inputs.rows(field.inputs), form(field)
        self._note(name, len(field.inputs), sum(block.nnz for block in field.operators))
        return lambda: peers.trained_step(net, lambda: forward(x, given), self.labels[nodes], optimizer)

    def step_alone(self) -> Callable[[], object]:
        """Our step on one block, sampling and gathering not counted: the other side of `blocks`."""
        model = self.model()
        optimizer = optimizer_of(model, self.settings)
        field = self.sampler.field(self.order[: self.size], stream_seed(0, 0))
        x, labels = self.inputs.rows(field.inputs), self.labels[self.order[: self.size]]

        def step() -> float:
            # A new operator a step, as in training: what a pattern keeps would otherwise be counted once.
            again = tuple(peers.fresh(block) for block in field.operators)
            loss = ModelLoss(model, x, again).backward(labels)
            optimizing.step(optimizer)
            optimizing.zero_grad(optimizer)
            return loss

        return step

    def _note(self, name: str, nodes: int, messages: int) -> None:
        self.seen.setdefault(name, []).append({"nodes": nodes, "messages": messages})


def race(store: str, kind: str, rounds: int, size: int, threads: int) -> dict[str, Any]:
    """Whole batches, ours against a loader in numpy; and steps alone on the same blocks."""
    torch.set_num_threads(threads)
    dataset = open_store(Path(store)).dataset()
    batches = Batches(dataset, kind, SETTINGS[kind], size)
    whole = clocks.in_turn({OURS: batches.ours(), LOADER: batches.loader()}, rounds)
    forms = [EDGES, *([MATRICES] if kind == "gcn" else [])]
    alone = clocks.in_turn({OURS: batches.step_alone(), **{f: batches.blocks(f) for f in forms}}, rounds)
    sampling = clocks.in_turn({"drawing": _drawing(batches), "gathering": _gathering(batches)}, rounds)
    return {
        "kind": kind,
        "batches": batches.count,
        "training_nodes": len(batches.train),
        "size": size,
        "fanouts": list(FANOUTS),
        "width": WIDTH,
        "rounds": rounds,
        "whole": compared(whole),
        "alone": compared(alone),
        "pieces": {name: statistics.median(times["processor"]) for name, times in sampling.items()},
        "sizes": {
            name: {key: round(statistics.mean(row[key] for row in rows)) for key in ("nodes", "messages")}
            for name, rows in batches.seen.items()
        },
        "behind": background(dataset, kind, size, rounds),
    }


def compared(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Medians by both clocks and how many times as long the others take, by rounds."""
    return {
        name: {
            **rows,
            "median": {clock: statistics.median(rows[clock]) for clock in rows},
            "ratio": {clock: timing.ratio(rows[clock], times[OURS][clock]) for clock in rows},
        }
        for name, rows in times.items()
    }


def background(dataset: NodeDataset, kind: str, size: int, count: int) -> dict[str, float]:
    """Our batches as a training has them, drawn by a thread of its own: seconds of ``count`` batches, a batch."""
    split = dataset.split
    assert split is not None
    parts = Parts(split.train, split.validation, split.test)
    task = BatchTask(dataset, parts, SETTINGS[kind], Batching(size, FANOUTS))
    torch.manual_seed(0)
    model = task.build()
    optimizer = task.optimizer(model)
    waiting = iter(task.batches(0))

    def steps(number: int) -> None:
        for _ in range(number):
            try:
                batch = next(waiting)
            except StopIteration:
                return
            task.backward(model, batch)
            optimizing.step(optimizer)
            optimizing.zero_grad(optimizer)

    steps(4)  # as many as are drawn ahead
    taken = clocks.once(lambda: steps(count))
    waiting.close()  # type: ignore[attr-defined]
    return {name: seconds / count for name, seconds in taken.items()}


def _drawing(batches: Batches) -> Callable[[], object]:
    return lambda: batches.sampler.field(batches.order[: batches.size], 0)


def _gathering(batches: Batches) -> Callable[[], object]:
    inputs = batches.sampler.field(batches.order[: batches.size], 0).inputs
    return lambda: batches.inputs.rows(inputs)


def alone(store: str, size: int, rounds: int, threads: int) -> dict[str, Any]:
    """Our GCN's batch without a peer: for the fit over sizes of graphs."""
    torch.set_num_threads(threads)
    dataset = open_store(Path(store), verify=False).dataset()
    batches = Batches(dataset, "gcn", SETTINGS["gcn"], min(size, dataset.num_nodes // 8))
    times = clocks.in_turn({OURS: batches.ours()}, rounds)[OURS]
    rows = batches.seen[OURS]
    return {
        "processor_seconds": statistics.median(times["processor"]),
        "wall_seconds": statistics.median(times["wall"]),
        "size": batches.size,
        "read": statistics.mean(row["nodes"] for row in rows),
        "messages": statistics.mean(row["messages"] for row in rows),
    }
