"""Node classification in mini-batches, as `layerlab.lab.training` wants it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from queue import SimpleQueue
from typing import NamedTuple

import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.loss import cross_entropy
from layerlab.graph.model_loss import ModelLoss
from layerlab.graph.models import SGC
from layerlab.graph.node_data import NodeDataset
from layerlab.graph.sampling.ahead import ahead
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.inference import infer
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sampling.neighbours import Sampler
from layerlab.graph.sampling.partition import PartitionedInputs, check_partition, partitioned
from layerlab.graph.sampling.propagation import propagate_columns
from layerlab.graph.sampling.room import room
from layerlab.graph.settings import Settings
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.task import Judged, Parts, build_model, optimizer_of
from layerlab.lab.process_group import Group
from layerlab.lab.training import stream_seed

# Batches that wait while one is trained on.
AHEAD = 3
# Rows of propagated features that are judged at a time.
_ROWS = 1 << 16


class Batch(NamedTuple):
    """What a step reads: features, one operator a layer (None: the model takes none), labels.

    ``weight`` is what the mean loss over these labels counts for; of a batch that processes share, the share's number
    of nodes over the mean share's.
    """

    x: Tensor | SparseMatrix
    operators: tuple[SparseMatrix, ...] | None
    labels: Tensor
    weight: float = 1.0


class BatchTask:
    """Node classification with cross-entropy in mini-batches of training nodes, neighbours drawn anew each epoch.

    Batches are drawn and gathered in a background thread while the model trains on earlier ones. Every batch has a
    seed of its own, from the epoch's and its position, so that bits depend neither on the number of threads nor on
    what was interrupted. Validation and test are never sampled: see `layerlab.graph.sampling.inference.infer`.

    A GCN's sampled entries are scaled so that a layer's sums are right in expectation; a GAT takes its softmax over
    what was drawn; an SGC propagates its features once, with all neighbours, and an MLP has none.

    Args:
        dataset: a `NodeDataset`; its features may be a store's, of which only the rows of a batch are read.
        parts: nodes that train, choose and are reported.
        settings: of the model; not one of the course's.
        batching: size and fan-outs.
        workers: threads that draw.
        group: processes that share every batch. As a draw belongs to its node, the shares' fields are what one
            process would have drawn for all. The first evaluates for all.
        partition: of `layerlab.graph.sampling.partition.PARTITIONS`: each process of the group holds the features of
            its part of the nodes, trains on those of a batch that are its own, and fetches what else they read. None:
            each reads all features where they are.

    Raises:
        UserError: no training or validation nodes, a model of the course, fan-outs that are not one a layer, more
            processes than nodes in a batch, or a partition without a group, of another name, or of an SGC.
    """

    def __init__(
        self,
        dataset: NodeDataset,
        parts: Parts,
        settings: Settings,
        batching: Batching,
        *,
        workers: int = 1,
        group: Group | None = None,
        partition: str | None = None,
    ) -> None:
        if workers < 1:
            raise UserError(f"expected workers >= 1, got {workers}")
        if settings.course and settings.model in ("gcn", "gat"):
            raise UserError(
                "the course's models train in full batches, as the course does; leave --batch-size out, or choose"
                " --protocol random"
            )
        self.dataset, self.settings, self.batching = dataset, settings, batching
        self._samples = settings.model in ("gcn", "gat")
        self.fanouts = batching.for_layers(settings.layers) if self._samples else ()
        self._judged = Judged(dataset, parts)
        self._group = group
        together = min(batching.size, len(parts.train))
        if group is not None and group.size > together:
            raise UserError(
                f"expected at most as many processes as nodes in a batch, {together}, got {group.size}; start fewer"
            )
        if partition is not None:
            if group is None:
                raise UserError(
                    "a partition is over several processes; give their group, or leave partition out"
                )
            if settings.model == "sgc":
                raise UserError(
                    "an SGC propagates whole columns of features once, before it trains; leave --partition out"
                )
            check_partition(partition)
        self._partition = partition
        self._parted: PartitionedInputs | None = None
        if partition is None:
            self.inputs = Inputs(dataset.features)
        self._workers = workers
        self._samplers: SimpleQueue[Sampler] = SimpleQueue()
        self._propagated: Tensor | None = None

    def build(self) -> nn.Module:
        model = build_model(self.settings, self.dataset.num_features, self.dataset.num_classes)
        graph = self.dataset.graph
        if self._partition is not None and self._group is not None and self._parted is None:
            self.inputs = self._parted = partitioned(self.dataset, self._partition, self._group)
        if self._samples:
            gcn = self.settings.model == "gcn"
            operator = graph.normalized_adjacency() if gcn else neighbourhoods(graph)
            for _ in range(self._workers):
                self._samplers.put(Sampler(operator, self.fanouts, scaled=gcn))
        if isinstance(model, SGC):
            self._propagate()
        return model

    def _propagate(self) -> None:
        """The propagated features of the nodes that train or are judged; others are not read again."""
        parts = self._judged.parts
        kept = torch.cat([parts["train"], self._judged.evaluated]).unique()
        with room() as rooms:
            self._propagated = propagate_columns(
                *(self.dataset.graph.normalized_adjacency(), self.inputs, self.settings.steps, kept, rooms)
            )
        self._place = torch.empty(self.dataset.num_nodes, dtype=torch.int64)
        self._place[kept] = torch.arange(len(kept))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return optimizer_of(model, self.settings)

    def batches(self, epoch: int) -> Iterable[Batch]:
        """Every training node once, in random order; order and seeds come from torch's generator, here."""
        train = self._judged.parts["train"]
        order = train[torch.randperm(len(train))]
        seed = int(torch.randint(2**62, ()))
        size = self.batching.size
        count = -(-len(order) // size)
        return ahead(
            lambda position: self._share(order[position * size : (position + 1) * size], seed, position),
            count,
            depth=AHEAD,
            workers=self._workers,
        )

    def _share(self, nodes: Tensor, seed: int, position: int) -> Batch:
        """The part of a batch that this process trains on."""
        if self._group is None:
            return self._batch(nodes, seed, position)
        if self._parted is None:
            mine = nodes[self._group.share(len(nodes))]
        else:
            mine = nodes[self._parted.owners[nodes] == self._group.rank]
        weight = len(mine) * self._group.size / len(nodes)
        # All take part in every step: who has no node takes one that does not count.
        with self._group.alone():
            return self._batch(mine if len(mine) else nodes[:1], seed, position)._replace(weight=weight)

    def _batch(self, nodes: Tensor, seed: int, position: int) -> Batch:
        labels = self._judged.labels[nodes]
        if self._propagated is not None:
            return Batch(self._propagated[self._place[nodes]], None, labels)
        if not self._samples:
            return Batch(self.inputs.rows(nodes), None, labels)
        sampler = self._samplers.get()
        try:
            field = sampler.field(nodes, stream_seed(seed, position))
        finally:
            self._samplers.put(sampler)
        # What a step needs of a pattern is looked up here, in the background.
        for operator in field.operators:
            _ = operator.pattern.trusted
        attends = self.settings.model == "gat"
        for operator in field.operators[0 if attends else 1 :]:
            operator.transposed_values()
            if attends:
                _ = operator.pattern.order, operator.pattern.longest
        return Batch(self.inputs.rows(field.inputs), field.operators, labels)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = cross_entropy(model(batch.x, batch.operators), batch.labels)
        return loss if batch.weight == 1 else loss * batch.weight

    def backward(self, model: nn.Module, batch: Batch) -> float:
        if self._group is not None:
            # The gradients of a wrapped model are reduced while autograd makes them.
            loss = self.loss(model, batch)
            loss.backward()
            return loss.item()
        return ModelLoss(model, batch.x, batch.operators).backward(batch.labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._group is None:
            return self._evaluated(model)
        if self._parted is not None and not self._group.first:
            self._parted.serve()
        return self._group.from_first(lambda: self._evaluated(model))

    def _evaluated(self, model: nn.Module) -> dict[str, float]:
        nodes = self._judged.evaluated
        if self._propagated is not None:
            places = self._place[nodes].split(_ROWS)
            logits = torch.cat([model(self._propagated[some], None) for some in places])
        else:
            with nullcontext() if self._parted is None else self._parted.served():
                logits = infer(model, self.inputs, self.dataset.graph, nodes)
        return self._judged.metrics(logits)
