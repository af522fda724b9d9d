"""Correctness first: outputs, gradients and trainings against torch_geometric's. Nothing is timed if one differs."""

from __future__ import annotations

from typing import Any

import torch
from bench_common import timing
from bench_common.command import GateError
from torch import Tensor, nn

from graph_bench import runners
from graph_bench.workloads import Workload
from layerlab.lab import kernels

# Largest difference of outputs, loss and gradients, relative to the largest number of each. In float64 rounding is
# 1e-16 a sum; in float32 6e-8, and sums of 10^5 numbers in another order may lose three digits of it (measured at 2.3
# million edges: 1.3e-5).
ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-4}
# Accuracy after trainings with dropout: the whole 95 per cent interval of the mean difference lies within this.
ALLOWED_ACCURACY = 0.03
EPOCHS_WITHOUT, EPOCHS_WITH = 30, 80


def _numbers(runner: runners.Runner) -> list[Tensor]:
    """Loss and gradients, the parameters in an order that does not depend on their names."""
    runner.module.eval()
    parameters = list(runner.module.parameters())
    runner.module.zero_grad()
    loss = runner.backpropagate()
    gradients = [p.grad.clone() for p in parameters if p.grad is not None]
    runner.module.zero_grad()
    runner.module.train()
    # The two sides store attention vectors in other shapes and order; size and content identify a parameter.
    keys = [(p.numel(), round(float(p.detach().double().sum()), 4)) for p in parameters]
    order = sorted(range(len(parameters)), key=lambda position: keys[position])
    return [torch.tensor([loss], dtype=torch.float64), *[gradients[position].flatten() for position in order]]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, relative to the largest number of each tensor.

    Where all scores of a row have one sign, softmax cancels the receiver's part and its true gradient is 0: what is
    below 1 per cent of the largest gradient is measured against that.
    """
    worst = 0.0
    least = 1e-2 * max(float(b.abs().max()) for b in expected[1:] or expected)
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            return float("inf")
        scale = max(float(b.abs().max()), least)
        worst = max(worst, float((a.double() - b.double()).abs().max()) / scale)
    return worst


def _perturbed(runner: runners.Runner) -> runners.Runner:
    """Weights away from their start, where zero biases would hide an error; the same for every runner.

    In float64 far away, so that attention has scores of both signs; in float32 not, since softmax magnifies the
    rounding of large scores, on either side.
    """
    with torch.no_grad():
        for parameter in runner.module.parameters():
            flat = parameter.view(-1)
            steps = torch.arange(len(flat), dtype=torch.float64)
            size = 0.5 if flat.dtype == torch.float64 else 0.05
            flat += (size * torch.cos(steps * steps + len(flat))).to(flat.dtype)
    return runner


def compare(workload: Workload, kind: str, dtype: torch.dtype) -> dict[str, float]:
    """Every runner against torch_geometric, and in float64 the kernels' slow twin; dropout off, same weights.

    In float32 both sides round, so both are measured against layerlab in float64, which the float64 gate has found
    equal to torch_geometric. A runner may differ from it by what is allowed, or by three times as much as
    torch_geometric does: sums in another order round otherwise.

    Raises:
        GateError: one of them differs.
    """
    everyone = [_perturbed(runner) for runner in runners.contestants(workload, kind, dtype)]
    (ours,) = (runner for runner in everyone if runner.name == runners.WHOLE)
    if dtype == torch.float64:
        expected, allowed = _numbers(everyone[0]), ALLOWED[dtype]
        found = {}
    else:
        (exact,) = (
            runner
            for runner in runners.contestants(workload, kind, torch.float64)
            if runner.name == runners.WHOLE
        )
        exact.module.load_state_dict(ours.module.state_dict())
        expected = _numbers(exact)
        found = {everyone[0].name: difference(_numbers(everyone[0]), expected)}
        allowed = max(ALLOWED[dtype], 3 * found[everyone[0].name])
    found |= {runner.name: difference(_numbers(runner), expected) for runner in everyone[1:]}
    # All nodes' outputs, not only the training nodes'.
    outputs = [_logits(runner.module.eval(), workload).flatten() for runner in (ours, everyone[0])]
    found["layerlab's outputs"] = difference([outputs[0]], [outputs[1]])
    if dtype == torch.float64:
        with kernels.disabled():
            found["layerlab, plain torch"] = difference(_numbers(ours), expected)
    for name, worst in found.items():
        if not worst <= allowed:
            raise GateError(
                f"{workload.name}, {kind}: {name} differs from torch_geometric by {worst:.3g} of the largest "
                f"number in {dtype}, {allowed:.3g} is allowed"
            )
    return found


def trained(workload: Workload, kind: str, seeds: int) -> dict[str, Any]:
    """Predictions after short trainings of both.

    Without dropout, from the same weights in float64, the two must agree node by node. With the papers' dropout they
    draw different numbers, so accuracies on the test nodes are compared over seeds, both from a seed's same weights.

    Args:
        workload: a data set with a split.
        kind: "gcn" or "gat".
        seeds: how many; with fewer than two, trainings with dropout are left out.

    Raises:
        GateError: they do not agree.
    """
    makers = {"torch_geometric": runners.peer, "layerlab": runners.whole}
    same = {
        name: _predictions(make(workload, kind, torch.float64), workload, EPOCHS_WITHOUT, None)
        for name, make in makers.items()
    }
    disagreeing = int((same["torch_geometric"] != same["layerlab"]).sum())
    if disagreeing:
        raise GateError(
            f"{workload.name}, {kind}: after {EPOCHS_WITHOUT} epochs without dropout {disagreeing} nodes are "
            "classified otherwise"
        )
    result: dict[str, Any] = {
        "epochs_without_dropout": EPOCHS_WITHOUT,
        "accuracy_without_dropout": _accuracy(same["layerlab"], workload),
        "seeds": seeds,
    }
    if seeds < 2:
        return result
    for name, make in makers.items():
        result[f"{name}_with_dropout"] = [
            _accuracy(_predictions(make(workload, kind, seed=seed), workload, EPOCHS_WITH, seed), workload)
            for seed in range(seeds)
        ]
    ours, theirs = result["layerlab_with_dropout"], result["torch_geometric_with_dropout"]
    result |= {"epochs_with_dropout": EPOCHS_WITH, "difference": timing.difference(ours, theirs)}
    _judge(result["difference"], f"{workload.name}, {kind}")
    return result


def _judge(difference: dict[str, float], work: str) -> None:
    low, high = difference["low"], difference["high"]
    if not -ALLOWED_ACCURACY < low <= high < ALLOWED_ACCURACY:
        raise GateError(
            f"{work}: accuracy with dropout differs from torch_geometric's by {low:+.4f} to {high:+.4f} (95 % "
            f"interval), which must lie within {ALLOWED_ACCURACY}"
        )


def _accuracy(predicted: Tensor, workload: Workload) -> float:
    assert workload.dataset is not None and workload.dataset.split is not None
    nodes = torch.tensor(workload.dataset.split.test)
    return float((predicted[nodes] == workload.labels[nodes]).double().mean())


def _predictions(runner: runners.Runner, workload: Workload, epochs: int, seed: int | None) -> Tensor:
    """Every node's class after a training; with dropout when there is a seed for it."""
    module = runner.module
    module.train(seed is not None)
    torch.manual_seed(seed or 0)
    for _ in range(epochs):
        runner.step()
    return _logits(module.eval(), workload).argmax(1)


@torch.no_grad()
def _logits(module: nn.Module, workload: Workload) -> Tensor:
    dtype = next(module.parameters()).dtype
    if isinstance(module, runners.Peer):
        logits: Tensor = module(workload.dense.to(dtype), workload.edge_index)
        return logits
    ours: Tensor = module(workload.features.to(dtype=dtype), workload.graph)
    return ours
