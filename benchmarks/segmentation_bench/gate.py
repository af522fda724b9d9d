"""Outputs and gradients against the plain network in float64, before anything is timed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from bench_common.command import GateError
from torch import Tensor, nn
from torch.nn import functional

from layerlab.segmentation.fast import prepared
from layerlab.segmentation.kernels import convolution
from layerlab.segmentation.kernels.normalisation import activated
from segmentation_bench import contestants

# Of the largest number of each tensor: some hundred roundings of float32.
ALLOWED = 1e-4
# A ReLU at zero or two equal maxima may fall to the other side in float32, which moves gradients by per cents. So those
# of networks are the best of a few batches, and the kernels are compared one by one besides, where nothing can fall.
KINKED, BATCHES = 3e-2, 4
GRADIENTS = "gradients, "


def check_all(side: int) -> dict[str, Any]:
    """Compare every contestant; raises `GateError` where one differs."""
    rows: dict[str, float] = {}
    for seed in range(BATCHES):
        for name, value in differences(side, seed).items():
            best = min if name.startswith(GRADIENTS) else max
            rows[name] = best(value, rows.get(name, value))
    for name, value in rows.items():
        allowed = KINKED if name.startswith(GRADIENTS) else ALLOWED
        if not value <= allowed:
            raise GateError(f"{name}: differs by {value:.1e}, allowed {allowed:.0e}")
    largest = max(value for name, value in rows.items() if not name.startswith(GRADIENTS))
    return {"largest": largest, "allowed": ALLOWED, "kinked": KINKED, "batches": BATCHES, "rows": rows}


def differences(side: int, seed: int) -> dict[str, float]:
    """Of every contestant from the plain network in float64, on one batch."""
    net = contestants.ours((16, 32, 64, 128), seed)
    five = contestants.ours((16, 16, 32, 64, 128), seed)
    x, y = contestants.drawn(2, side, seed)
    settle(net, x)
    settle(five, x)
    reference, deeper = (step(contestants.plain(n).double(), x.double(), y) for n in (net, five))
    rows = {"the convolution's kernel": of_convolution(seed), "the norm's kernels": of_norm(seed)}
    for name, made, expected in (
        ("plain, float32", step(contestants.plain(net), x, y), reference),
        ("ours", step(copy.deepcopy(net), x, y), reference),
        ("ours, five levels", step(copy.deepcopy(five), x, y), deeper),
        ("MONAI, five levels", step(contestants.monai(five), x, y), deeper),
    ):
        rows[f"logits, {name}"] = difference(made[:1], expected[:1])
        rows[f"{GRADIENTS}{name}"] = difference(made[1:], expected[1:])
    for name, model in (("prepared", net), ("prepared, five levels", five)):
        exact = contestants.plain(model).double().eval()(x.double()).detach()
        rows[f"logits, {name}"] = relative(prepared(model)(x).double(), exact)
    return rows


def of_convolution(seed: int) -> float:
    """Of the weight's gradient, 32 to 16 channels of 2 images of 64 x 64, from torch's in float64."""
    x, g = _maps(seed, 32), _maps(seed + 1, 16)
    weight = torch.zeros(16, 32, 3, 3, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(functional.conv2d(x.double(), weight, padding=1), weight, g.double())
    return relative(convolution.weight_gradient(x, g).double(), exact)


def of_norm(seed: int) -> float:
    """Of output and gradients of batch norm and ReLU of such maps, from torch's in float64."""
    norm, act = nn.BatchNorm2d(32), nn.ReLU()
    twin = copy.deepcopy(norm).double()
    x, g = 3 * _maps(seed, 32) + 5, _maps(seed + 1, 32)
    given = [x.requires_grad_(), *norm.parameters()]
    exactly = [x.detach().double().requires_grad_(), *twin.parameters()]
    normal = twin(exactly[0])
    # Where a value is next to zero, float32 may see it on the other side: no gradient comes from there.
    g = torch.where(normal.detach().abs() > ALLOWED, g, 0.0).contiguous(memory_format=torch.channels_last)
    out, exact = activated(x, norm, act), act(normal)
    found = [out.detach(), *torch.autograd.grad(out, given, g)]
    return difference(found, [exact.detach(), *torch.autograd.grad(exact, exactly, g.double())])


def _maps(seed: int, channels: int) -> Tensor:
    made = torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last)


def settle(net: nn.Module, x: Tensor) -> None:
    """Statistics of the norms from data, so that predictions are not those of an untrained norm."""
    with torch.no_grad():
        for _ in range(3):
            net(x)


def step(net: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Logits in training, and the gradient of the first and of the last weight, and the norm of every one, sorted."""
    logits = net.train()(x)
    functional.cross_entropy(logits, y).backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None and p.ndim == 4]
    norms = torch.stack([g.norm() for g in gradients]).sort().values
    head = next(g for g in reversed(gradients) if g.shape[0] == contestants.CLASSES and g.shape[2] == 1)
    return [logits.detach(), gradients[0], head, norms]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(relative(a.double(), b.double()) for a, b in zip(found, expected, strict=True))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
