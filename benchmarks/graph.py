"""A training step of GCN and GAT on Cora (public split) against torch_geometric's, in turn, in one process.

Usage: python benchmarks/graph.py [--quick]

Three runners do the same work, the forward and backward pass of the loss on the 140 training nodes and one Adam step,
with the dropout of the papers and the same number of threads: torch_geometric on the whole graph (dense features, as
its examples have them), layerlab on the whole graph, and layerlab on the receptive field of the training nodes. The
gate compares losses and gradients in float64, without dropout, on the same weights; nothing is timed before it has
passed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from layerlab.graph import GAT, GCN, NodeDataset, SparseMatrix, load, to_pyg
from layerlab.graph.field import receptive_field
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.task import normalise_rows
from layerlab.lab.records import environment, write_json

RESULTS = Path(__file__).parent / "results" / "graph.json"
Step = Callable[[], Tensor]


class Peer(nn.Module):
    """torch_geometric's layers with our weights, wired as its examples are."""

    def __init__(self, model: GCN | GAT) -> None:
        super().__init__()
        self.convs = nn.ModuleList(to_pyg(conv) for conv in model.convs)  # type: ignore[arg-type]
        self.activation = nn.functional.relu if isinstance(model, GCN) else nn.functional.elu
        self.p = model.dropout

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for position, conv in enumerate(self.convs):
            x = self.activation(x) if position else x
            x = conv(nn.functional.dropout(x, self.p, self.training), edges)
        return x


class Cora:
    """The data in the forms that the runners want."""

    def __init__(self, data: NodeDataset, dtype: torch.dtype) -> None:
        assert data.split is not None
        self.graph, self.train = data.graph, torch.tensor(data.split.train)
        self.labels = torch.tensor(data.labels)[self.train]
        self.sparse = normalise_rows(data.features).to(dtype=dtype)
        self.dense = self.sparse.to_dense()
        coo = self.graph.adjacency()
        self.edges = torch.stack([coo.row.long(), coo.col.long()])
        self.operators = {
            "gcn": self.graph.normalized_adjacency(dtype=dtype),
            "gat": neighbourhoods(self.graph, dtype),
        }


def losses(kind: str, model: GCN | GAT, peer: Peer, cora: Cora) -> dict[str, Step]:
    """The training loss of each runner."""
    field = receptive_field(cora.operators[kind], cora.train, 2)
    read: SparseMatrix = cora.sparse.rows(field.inputs)
    entropy = nn.functional.cross_entropy
    return {
        "torch_geometric": lambda: entropy(peer(cora.dense, cora.edges)[cora.train], cora.labels),
        "layerlab, whole graph": lambda: entropy(model(cora.sparse, cora.graph)[cora.train], cora.labels),
        "layerlab, receptive field": lambda: entropy(model(read, field.operators), cora.labels),
    }


def gate(kind: str, build: Callable[[], GCN | GAT], data: NodeDataset) -> float:
    """The largest difference of loss and gradients from torch_geometric's, in float64 without dropout."""
    torch.manual_seed(0)
    model = build().double().eval()
    peer = Peer(model).double().eval()
    worst = 0.0
    runs = losses(kind, model, peer, Cora(data, torch.float64))
    expected = _fingerprint(runs.pop("torch_geometric")(), peer)
    for name, run in runs.items():
        found = _fingerprint(run(), model)
        difference = float((found - expected).abs().max())
        if not difference < 1e-10:
            sys.exit(f"{kind}: {name} differs from torch_geometric by {difference:.3g}: nothing is timed")
        worst = max(worst, difference)
    return worst


def _fingerprint(loss: Tensor, module: nn.Module) -> Tensor:
    """The loss, and every gradient's sum against fixed weights; sizes and sums of the parameters pair them up."""
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    parts = []
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        flat = gradient.flatten()
        weights = torch.cos(torch.arange(len(flat), dtype=flat.dtype))
        parts.append((parameter.numel(), float(parameter.detach().sum()), float(flat @ weights)))
    return torch.tensor(
        [float(loss.detach()), *[value for _, _, value in sorted(parts)]], dtype=torch.float64
    )


def measure(
    kind: str, build: Callable[[], GCN | GAT], data: NodeDataset, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each step of each runner; the runners take turns, A B C A B C ..."""
    cora = Cora(data, torch.float32)
    torch.manual_seed(0)
    model = build().train()
    peer = Peer(model).train()
    optimizers = {
        name: torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=5e-4, fused=True)
        for name, module in (("peer", peer), ("model", model))
    }
    runs = losses(kind, model, peer, cora)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(-3, rounds):  # the first three warm up
        for name, loss in runs.items():
            optimizer = optimizers["peer" if name == "torch_geometric" else "model"]
            started = time.perf_counter()
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            if round_number >= 0:
                times[name].append(time.perf_counter() - started)
    return times


def main() -> None:
    rounds = 20 if "--quick" in sys.argv[1:] else 100
    data = load("cora")
    builds: dict[str, Callable[[], GCN | GAT]] = {
        "gcn": lambda: GCN(data.num_features, 16, data.num_classes),
        "gat": lambda: GAT(data.num_features, 8, data.num_classes),
    }
    report: dict[str, object] = {
        "command": "python benchmarks/graph.py" + (" --quick" if rounds == 20 else ""),
        "environment": environment(),
        "rounds": rounds,
    }
    for kind, build in builds.items():
        worst = gate(kind, build, data)
        times = measure(kind, build, data, rounds)
        base = times["torch_geometric"]
        rows = {}
        for name, seconds in times.items():
            ratios = sorted(a / b for a, b in zip(base, seconds, strict=True))
            tenth = len(ratios) // 10
            rows[name] = {
                "median_ms": 1e3 * statistics.median(seconds),
                "least_ms": 1e3 * min(seconds),
                "times_faster": statistics.median(ratios),
                "times_faster_80_per_cent": [ratios[tenth], ratios[-1 - tenth]],
                "seconds": seconds,
            }
            print(
                f"{kind}  {name:26} median {rows[name]['median_ms']:8.2f} ms   "
                f"{rows[name]['times_faster']:6.1f} times torch_geometric "
                f"(80 % of pairs: {ratios[tenth]:.1f} to {ratios[-1 - tenth]:.1f})"
            )
        report[kind] = {"largest_difference_in_float64": worst, "runners": rows}
    write_json(RESULTS, report)
    print(f"written: results/{RESULTS.name}")


if __name__ == "__main__":
    main()
