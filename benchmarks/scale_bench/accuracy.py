"""Test accuracy of mini-batches against full batches: the same splits, settings and seeds, paired."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from layerlab.graph.datasets import load
from layerlab.graph.experiments import task_for
from layerlab.graph.generate import block_edges
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sampling import Batching
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.graph.task import parts_for
from layerlab.lab.schedule import Schedule
from layerlab.lab.training import fit

# ogbn-arxiv's sizes; homophily, degree exponent and signal are such that neither features nor edges say everything.
ARXIV = {"nodes": 169_343, "edges": 1_166_243, "classes": 40, "columns": 128, "train": 90_941, "val": 29_799}
HOMOPHILY, EXPONENT = 0.4, 2.6
# Of the words of a node, each is one of its class's words with probability OWN, else any.
WORDS, WORDS_OF_CLASS, OWN = 8, 12, 0.4
# Of the planted graph: on a tenth of it both trainings came to rest with these.
RATE, DROPOUT = 0.02, 0.2


def planted(seed: int = 0, shrink: int = 1) -> NodeDataset:
    """A degree-corrected block model of ogbn-arxiv's size with planted communities.

    Args:
        seed: of everything.
        shrink: the numbers of nodes and edges are divided by it.
    """
    generator = np.random.default_rng(seed)
    n, classes = ARXIV["nodes"] // shrink, ARXIV["classes"]
    labels = generator.permutation(np.arange(n) % classes)
    mixing = np.full((classes, classes), (1 - HOMOPHILY) / (classes * (classes - 1)))
    np.fill_diagonal(mixing, HOMOPHILY / classes)
    weights = (generator.permutation(n) + n / 1000) ** (-1 / (EXPONENT - 1))
    ends = block_edges(labels, mixing, ARXIV["edges"] // shrink, generator, weights=weights)
    features = words(labels, classes, generator)
    order = generator.permutation(n)
    train, validation = ARXIV["train"] // shrink, ARXIV["val"] // shrink
    split = Split(
        *(np.sort(part) for part in np.split(order, [train, train + validation]))  # type: ignore[arg-type]
    )
    names = tuple(f"class {number}" for number in range(classes))
    source = f"degree-corrected block model of {n} nodes, homophily {HOMOPHILY}, seed {seed}"
    graph = Graph.from_edges(*ends, num_nodes=n)
    return NodeDataset("planted", graph, features, labels, names, tuple(map(str, range(n))), split, source)


def words(labels: NDArray[np.int64], classes: int, generator: np.random.Generator) -> SparseMatrix:
    """Features as those of a bag of words: a few ones a row, some of them from the words of the node's class."""
    columns = ARXIV["columns"]
    owned = np.stack([generator.permutation(columns)[:WORDS_OF_CLASS] for _ in range(classes)])
    shape = (len(labels), WORDS)
    own = owned[labels[:, None], generator.integers(0, WORDS_OF_CLASS, shape)]
    chosen = np.where(generator.random(shape) < OWN, own, generator.integers(0, columns, shape))
    rows = np.repeat(np.arange(len(labels)), WORDS)
    matrix = sp.csr_array(
        (np.ones(rows.size, np.float32), (rows, chosen.ravel())), shape=(len(labels), columns)
    )
    matrix.data[:] = 1.0
    return SparseMatrix.from_scipy(matrix)


def accuracy(
    data: str, seed: int, size: int, fanouts: list[int], full: int, mini: int, hidden: int, threads: int
) -> dict[str, Any]:
    """Test accuracy of the best epoch by validation, in full batches and in mini-batches, from the same weights.

    Args:
        data: a data set's name, or "planted" or "planted/20", a twentieth of it.
        seed: of weights, dropout and draws.
        size, fanouts: of the mini-batches.
        full, mini: epochs of each.
        hidden: width; 0 keeps the paper's settings.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    name, _, shrink = data.partition("/")
    dataset = planted(shrink=int(shrink or 1)) if name == "planted" else load(data)
    settings = settings_for("gcn", "public", dataset.name)
    if hidden:
        settings = replace(settings, hidden=hidden, weight_decay=0.0, learning_rate=RATE, dropout=DROPOUT)
    found: dict[str, Any] = {"seed": seed}
    for label, epochs, batching in (
        ("full", full, None),
        ("mini", mini, Batching(size, tuple(fanouts))),
    ):
        found[label] = trained(dataset, replace(settings, epochs=epochs), seed, batching)
    return found


def trained(dataset: NodeDataset, settings: Settings, seed: int, batching: Batching | None) -> dict[str, Any]:
    """One training: its test accuracy in per cent at the best epoch, and what it took."""
    parts = parts_for(dataset, "public", seed)
    task = task_for(dataset, parts, settings, batching)
    wall, processor = time.perf_counter(), time.process_time()
    result = fit(
        task, Schedule(settings.epochs, "validation_accuracy", None, (), "validation_loss"), seed=seed
    )
    return {
        "accuracy": 100 * result.metrics["test_accuracy"],
        "validation": 100 * result.metrics["validation_accuracy"],
        "best_epoch": result.best_epoch,
        "epochs": settings.epochs,
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }
