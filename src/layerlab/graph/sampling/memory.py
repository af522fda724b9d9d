"""How much memory a training takes, reckoned before it begins, and what follows from it: full batch or mini-batches.

The formulas are those of docs/scale.md; bytes beside the graph and the features as they were loaded. ``n`` nodes,
``e`` entries of P, ``L`` layers of widths ``w_0, ..., w_L``, float32 and 32-bit indices. A receptive field is counted
upwards from the nodes in question: ``s_0`` of them, ``m_j`` entries in the rows of ``s_j`` nodes, which reach
``s_{j+1} = min(n, s_j + m_j)`` where all neighbours are read, else ``s_j + (n - s_j) (1 - exp(-m_j / n))``: as many as
``m_j`` draws among n hit, and draws that prefer some nodes hit fewer. The first m is exact, the others are by mean
degree. Reserve: 20 per cent of what is free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.task import AHEAD
from layerlab.graph.settings import Settings
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.store.features import SMALL
from layerlab.graph.task import Parts
from layerlab.lab.memory import available, size

# Up to this share of the free memory a training is said to fit.
SHARE = 0.8


@dataclass(frozen=True)
class Estimate:
    """Bytes of each part, beside what is loaded.

    Args:
        operator: the propagation matrix.
        fields: receptive fields and what building them takes.
        features: as the model reads them.
        activations: of a step, forward and backward, or of an evaluation, whichever is more.
    """

    operator: int
    fields: int
    features: int
    activations: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.operator + self.fields + self.features + self.activations


@dataclass(frozen=True)
class Choice:
    """Full batch (``batching`` None) or mini-batches, and why.

    Args:
        batching: what was chosen.
        full: the estimate of a full batch.
        chosen: the estimate of what was chosen.
        free: bytes of memory there are; None: unknown.
        asked: whether the person asked for mini-batches.
        stored: whether the features are too large for one matrix, and read from their files.
        processes: that share every batch; the estimates are one process's, of the whole batch.
    """

    batching: Batching | None
    full: Estimate
    chosen: Estimate
    free: int | None
    asked: bool
    stored: bool = False
    processes: int = 1

    @property
    def notable(self) -> bool:
        """Whether a person wants to hear of it: mini-batches, or over a hundredth of the free memory."""
        return self.batching is not None or self.free is None or 100 * self.full.total > self.free

    @property
    def sentence(self) -> str:
        """What was chosen and why; where it does not fit either, that it does not."""
        have = "an unknown amount of memory" if self.free is None else f"{size(self.free)} of free memory"
        needs = f"a full batch would take about {size(self.full.total)} of {have}"
        if self.batching is None:
            return f"full batch: it takes about {size(self.full.total)} of {have}"
        cut = f"mini-batches of {self.batching.size:,} node{'s' * (self.batching.size != 1)}"
        if self.batching.fanouts:
            named = ("all" if fanout < 0 else str(fanout) for fanout in self.batching.fanouts)
            cut += f", fan-out {','.join(named)}"
        if self.stored:
            needs = f"the features stay in their files; {needs}"
        why = f"as asked; {needs}" if self.asked else needs
        if self.processes > 1:
            why = f"{self.processes} processes share them; {needs}"
        said = f"{cut}: {why}, these about {size(self.chosen.total)}"
        if self.free is not None and self.chosen.total > self.free:
            said += (
                "; that is more than there is: expect the system to end it, or take a smaller --batch-size"
            )
        return said

    def record(self) -> dict[str, Any]:
        """As JSON, without the free memory: two runs of the same results are the same."""
        return {
            "mode": "full" if self.batching is None else "mini",
            "batching": None if self.batching is None else self.batching.record(),
            "estimate_bytes": {**asdict(self.chosen), "total": self.chosen.total},
            "full_batch_bytes": self.full.total,
            "asked": self.asked,
        }


def choose(
    dataset: NodeDataset, parts: Parts, settings: Settings, asked: Batching | None, processes: int = 1
) -> Choice:
    """What is asked for, or the full batch where it fits, else mini-batches of 1,024.

    Args:
        dataset: graph and features.
        parts: the nodes that train and are judged.
        settings: of the model.
        asked: None leaves it to the estimate. Fan-outs are filled in for the model's layers.
        processes: several share mini-batches, which are taken then.

    Raises:
        UserError: several processes, and a model of the course.
    """
    if processes > 1 and settings.course:
        raise UserError(
            "the course's models train in full batches, which processes cannot share; leave --processes (or torchrun)"
            " out, or choose --protocol random"
        )
    sampled = settings.model in ("gcn", "gat")
    full, free = full_batch(dataset, parts, settings), available()
    stored = not isinstance(dataset.features, SparseMatrix) and _stored(dataset) > SMALL
    fits = not stored and (free is None or full.total <= SHARE * free)
    if asked is None and processes == 1 and (settings.course or fits):
        return Choice(None, full, full, free, False)
    batching = asked or Batching()
    batching = Batching(batching.size, batching.for_layers(settings.layers) if sampled else ())
    return Choice(
        *(batching, full, mini_batch(dataset, parts, settings, batching), free, asked is not None, stored),
        processes,
    )


def full_batch(dataset: NodeDataset, parts: Parts, settings: Settings) -> Estimate:
    """What `layerlab.graph.task.NodeTask` takes.

    ``12 e`` for P and its pattern; ``(8 + 20) m`` an operator of the training's field (its transpose with it) and 8 an
    operator of the evaluation's, 60 an entry of the largest while it is built; 24 a stored feature; activations
    ``4 (s_in w_in + 2 s_in w_out + 2 s_out w_out)`` a layer, the sum in training, the largest in an evaluation.
    """
    graph, entries = dataset.graph, _entries(dataset)
    widths = _widths(dataset, settings)
    hops = 0 if settings.model == "mlp" else len(widths) - 1
    judged = np.union1d(parts.validation, parts.test)
    train, evaluated = (_levels(dataset, nodes, [-1] * hops) for nodes in (parts.train, judged))
    fields = sum(28 * m for _, m in train) + sum(8 * m for _, m in evaluated)
    fields += 60 * max((m for _, m in (*train, *evaluated)), default=0)
    step = sum(_activations(_sizes(train, len(parts.train)), widths, hops))
    judging = max(_activations(_sizes(evaluated, len(judged)), widths, hops), default=0)
    operator = 12 * entries + 4 * graph.num_nodes if hops else 0
    return Estimate(operator, fields, 24 * _stored(dataset), max(step, judging))


def mini_batch(dataset: NodeDataset, parts: Parts, settings: Settings, batching: Batching) -> Estimate:
    """What `layerlab.graph.sampling.task.BatchTask` takes.

    ``12 e`` for P; 5 a node for the sampler; 4 a number of features in memory (none of a store's). Then either a step:
    28 an entry of a batch's field and 4 a number of its features, for each batch that waits, is drawn or in use, and
    activations as above; or an evaluation: one batch, and two layers' activations of all nodes. Whichever is more.
    """
    nodes, entries = dataset.num_nodes, _entries(dataset)
    widths = _widths(dataset, settings)
    batch = parts.train[: batching.size]
    together = min(AHEAD + 2, -(-len(parts.train) // max(1, batching.size)))
    in_memory = isinstance(dataset.features, SparseMatrix)
    features = 4 * nodes * dataset.num_features if in_memory else 8 * nodes
    if settings.model in ("sgc", "mlp"):
        kept = len(parts.train) + len(parts.validation) + len(parts.test)
        read = 4 * kept * dataset.num_features if settings.model == "sgc" else 0
        block = 2 * 4 * nodes * min(64, dataset.num_features) if settings.model == "sgc" else 0
        rows = together * 4 * len(batch) * dataset.num_features
        operator = 12 * entries + 4 * nodes if settings.model == "sgc" else 0
        steps = sum(_activations([len(batch)] * len(widths), widths, 0))
        return Estimate(operator, 0, features + read + block, rows + steps)
    levels = _levels(dataset, batch, batching.fanouts)
    sizes = _sizes(levels, len(batch))
    field = 28 * sum(m for _, m in levels) + 4 * sizes[0] * dataset.num_features
    step = (together * field, sum(_activations(sizes, widths, len(widths) - 1)))
    judging = (field, 2 * 4 * nodes * max(widths[1:]))
    fields, activations = max(step, judging, key=sum)
    return Estimate(12 * entries + 4 * nodes, 5 * nodes + fields, features, activations)


def _entries(dataset: NodeDataset) -> int:
    """Entries of the graph with a self-loop at each node."""
    graph = dataset.graph
    return int(graph.indices.size) + graph.num_nodes - graph.num_self_loops


def _stored(dataset: NodeDataset) -> int:
    features = dataset.features
    rows, columns = features.shape
    return features.nnz if isinstance(features, SparseMatrix) else rows * columns


def _widths(dataset: NodeDataset, settings: Settings) -> list[int]:
    """Columns of the features and of each layer's output."""
    s, classes = settings, dataset.num_classes
    if s.model == "sgc":
        return [dataset.num_features, *[classes] * max(1, s.steps)]
    hidden = s.hidden * s.heads if s.model == "gat" else s.hidden
    last = classes * s.out_heads if s.model == "gat" else classes
    return [dataset.num_features, *[hidden] * (s.layers - 1), last]


def _levels(dataset: NodeDataset, nodes: Any, fanouts: Sequence[int]) -> list[tuple[int, int]]:
    """``(nodes reached, entries)`` of each layer of a field, the last layer's first."""
    graph, mean = dataset.graph, _entries(dataset) / max(1, dataset.num_nodes)
    levels, rows = [], len(nodes)
    for hop, fanout in enumerate(fanouts):
        if hop == 0:
            degrees = np.diff(graph.indptr)[nodes] + 1
            entries = int((degrees if fanout < 0 else np.minimum(degrees, fanout + 1)).sum())
        else:
            entries = int(rows * (mean if fanout < 0 else min(mean, fanout + 1)))
        entries = min(entries, _entries(dataset))
        nodes = dataset.num_nodes
        hit = (nodes - rows) * -math.expm1(-entries / max(1, nodes))
        rows = min(nodes, rows + (entries if fanout < 0 else math.ceil(hit)))
        levels.append((rows, entries))
    return levels


def _sizes(levels: Sequence[tuple[int, int]], asked: int) -> list[int]:
    """Nodes of each level, the inputs first."""
    return [*(rows for rows, _ in reversed(levels)), asked]


def _activations(sizes: Sequence[int], widths: Sequence[int], hops: int) -> list[int]:
    """Bytes a layer; without hops, all levels are of one size."""
    sizes = list(sizes) if hops else [sizes[-1]] * len(widths)
    return [
        4
        * (
            (sizes[layer] * widths[layer] if layer else 0)
            + 2 * (sizes[layer] + sizes[layer + 1]) * widths[layer + 1]
        )
        for layer in range(len(widths) - 1)
    ]
