"""Training and prediction, timed in turn, and the least that the machine could need."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bench_common import rates, timing
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from layerlab.lab import kernels
from layerlab.segmentation.fast import prepared
from segmentation_bench import contestants, gate

PLAIN, ALONE, OURS, KEEPING = (
    "plain layout",
    "channels-last, torch alone",
    "ours",
    "ours, keeping memory",
)
EVALUATED, PREPARED = "ours, evaluated", "ours, prepared"
MONAI = "MONAI BasicUNet"
WIDTHS, DEEP = (16, 32, 64, 128), (16, 16, 32, 64, 128)
# Of training in one go: what a process keeps pays from the second on.
STEPS = 4


def training(widths: Sequence[int], images: int, side: int, rounds: int) -> dict[str, Any]:
    """Our network against the plain one, the same steps of training in turn."""
    net, (x, y) = contestants.ours(widths), contestants.drawn(images, side)

    def alone() -> float:
        with kernels.disabled():
            return bare()

    bare = contestants.trainer(copy.deepcopy(net), x, y, STEPS)
    steps: dict[str, Callable[[], object]] = {
        PLAIN: contestants.trainer(contestants.plain(net), x, y, STEPS),
        ALONE: alone,
        OURS: contestants.trainer(copy.deepcopy(net), x, y, STEPS),
        KEEPING: contestants.keeping(contestants.trainer(copy.deepcopy(net), x, y, STEPS)),
    }
    return result(steps, rounds, images * STEPS, PLAIN, work(contestants.plain(net), x, training=True), net)


def prediction(widths: Sequence[int], images: int, side: int, rounds: int) -> dict[str, Any]:
    """The prepared network against the plain one, both without a gradient."""
    net, (x, _) = contestants.ours(widths), contestants.drawn(images, side)
    gate.settle(net, x)
    other = contestants.plain(net)
    steps: dict[str, Callable[[], object]] = {
        PLAIN: contestants.predictor(other, x),
        EVALUATED: contestants.predictor(copy.deepcopy(net), x),
        PREPARED: contestants.predictor(prepared(net), x),
    }
    return result(steps, rounds, images, PLAIN, work(other, x, training=False), net)


def monai(norm: str, images: int, side: int, rounds: int) -> dict[str, Any]:
    """The same five levels as MONAI's BasicUNet, with the same weights."""
    net, (x, y) = contestants.ours(DEEP, norm=norm, slope=0.1), contestants.drawn(images, side)
    gate.settle(net, x)
    theirs = contestants.monai(net)
    training_steps: dict[str, Callable[[], object]] = {
        MONAI: contestants.trainer(copy.deepcopy(theirs).train(), x, y, STEPS),
        KEEPING: contestants.keeping(contestants.trainer(copy.deepcopy(net).train(), x, y, STEPS)),
    }
    predicting: dict[str, Callable[[], object]] = {
        MONAI: contestants.predictor(theirs, x),
        PREPARED: contestants.predictor(prepared(net), x),
    }
    return {
        "training": result(
            training_steps, rounds, images * STEPS, MONAI, work(theirs, x, training=True), net
        ),
        "prediction": result(predicting, rounds, images, MONAI, work(theirs, x, training=False), net),
    }


def result(
    steps: dict[str, Callable[[], object]],
    rounds: int,
    images: int,
    base: str,
    least: dict[str, float],
    net: nn.Module,
) -> dict[str, Any]:
    """Images a second of every contestant and how many times as fast as ``base`` it is."""
    timed = timing.in_turn(steps, rounds)
    rows = {
        name: {
            "images_a_second": images / statistics.median(values),
            "best": images / min(values),
            "times": timing.ratio(timed["seconds"][base], values),
        }
        for name, values in timed["seconds"].items()
    }
    return {
        "rows": rows,
        "floor": floor(least),
        "parameters": sum(p.numel() for p in net.parameters()),
        **timed,
    }


def work(net: nn.Module, x: torch.Tensor, *, training: bool) -> dict[str, float]:
    """Operations of the convolutions of an image, and bytes that they read and write when each map passes once."""
    net = copy.deepcopy(net)
    net.train(training)
    numbers = [0]

    def count(module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        numbers[0] += args[0].numel() + out.numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        out = net(x)
        if training:
            out.sum().backward()
    # In training the gradients of the input and of the weight read and write as much as the convolution did.
    passes = 3 if training else 1
    return {
        "operations": counter.get_total_flops() / len(x),
        "bytes": passes * rates.NUMBER * numbers[0] / len(x),
    }


def floor(least: dict[str, float]) -> dict[str, float]:
    """Images a second at the rate of a product of matrices, and at that of memory."""
    arithmetic, bandwidth = rates.arithmetic(), rates.bandwidth(2**27)
    return {
        **least,
        "arithmetic": arithmetic,
        "bandwidth": bandwidth,
        "images_a_second": 1 / max(least["operations"] / arithmetic, least["bytes"] / bandwidth),
    }
