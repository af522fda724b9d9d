"""Every rule against dense Jacobians: never beaten, and met where it is said to be sharp."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (what everyone calls it)
from torch import Tensor

from layerlab.gradflow.bounds.combination import Bound, bound
from layerlab.gradflow.bounds.elementwise import GELU, GELU_TANH, MISH, SILU
from layerlab.gradflow.bounds.gains import gain
from layerlab.gradflow.evaluation import Call
from layerlab.gradflow.flow import Seen, record

Function = Callable[[Tensor], Tensor]


def bound_of(function: Function, x: Tensor) -> Bound:
    flow = record(Call.of(function, x, None, None, 0), gain)
    return bound(flow.operations, flow.source, stop=flow.sink)


def norm_of(function: Function, x: Tensor) -> float:
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    jacobian = torch.autograd.functional.jacobian(function, x)
    torch.set_rng_state(state)
    if not bool(torch.isfinite(jacobian).all()):
        return math.inf
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs(shape: tuple[int, ...], positive: bool) -> Iterator[Tensor]:
    """Ordinary, large, nearly constant and integer ones."""
    x, y = draw(*shape), draw(*shape, seed=1)
    for given in (x, 10 * y, 1 + 0.01 * x, (3 * y).round()):
        yield given.abs() + 0.05 if positive else given


W, V = draw(4, 6, seed=50), draw(4, seed=51)
B3 = draw(2, 4, 5, seed=52)
K1, K2 = draw(4, 2, 3, seed=53), draw(4, 2, 3, 3, seed=54)
KT, KG, K3 = draw(2, 4, 3, 3, seed=55), draw(4, 1, 3, 3, seed=56), draw(3, 2, 2, 2, 2, seed=57)
INDEX = torch.tensor([0, 2, 2, 1, 2])
MASK = torch.tensor([[True, False, True, True]] * 3)
SOME = draw(3, 4, seed=58)


def in_place(x: Tensor) -> Tensor:
    y = 2 * x
    y.sigmoid_()
    return y


def part_in_place(x: Tensor) -> Tensor:
    y = 2 * x
    y[:, :2].sigmoid_()
    return y


def part_from_part(x: Tensor) -> Tensor:
    y = 2 * x
    y[:, :2] = y[:, 2:]
    return y


def part_by_other(x: Tensor) -> Tensor:
    y = 2 * x
    y[:, :2] *= torch.sin(x[:, 2:])
    return y


def written(x: Tensor) -> Tensor:
    room = torch.zeros(5, 4, dtype=torch.float64)
    room[1:4] = x
    return room


def gates(x: Tensor) -> Tensor:
    a, b, c, d = x.chunk(4, 1)
    return a * b + torch.tanh(c) * d


def spread_over(x: Tensor) -> Tensor:
    return torch.zeros(3, 4, dtype=torch.float64).index_add(1, torch.tensor([0, 2, 2, 3]), x, alpha=2)


def put(x: Tensor) -> Tensor:
    return torch.zeros(4, dtype=torch.float64).index_put(
        (torch.tensor([[0], [1], [1]]),), x[:, :1], accumulate=True
    )


def double_softmax_attention(x: Tensor) -> Tensor:
    q, k, v = x.chunk(3, -1)
    return torch.softmax(q @ k.mT / 2, -1) @ v


# What is said to be sharp must be met at some of the inputs to 1e-6.
SHARP: dict[str, tuple[Function, tuple[int, ...]]] = {
    "relu": (torch.relu, (3, 4)),
    "abs": (torch.abs, (3, 4)),
    "clamp": (lambda x: x.clamp(-1, 2), (3, 4)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), (3, 4)),
    "leaky_relu steep": (lambda x: F.leaky_relu(x, -1.5), (3, 4)),
    "elu": (F.elu, (3, 4)),
    "celu": (lambda x: F.celu(x, 0.5), (3, 4)),
    "prelu": (lambda x: F.prelu(x, torch.tensor([0.25, 1.0, -2.0, 0.1]).double()), (3, 4)),
    "exp": (torch.exp, (3, 4)),
    "pow": (lambda x: x**3, (3, 4)),
    "pow 1": (lambda x: x**1, (3, 4)),
    "square": (torch.square, (3, 4)),
    "glu": (F.glu, (3, 4)),
    "add": (lambda x: x + SOME, (3, 4)),
    "add itself": (lambda x: x + 0.5 * x, (3, 4)),
    "add broadcast": (lambda x: x[:1] + SOME, (1, 4)),
    "sub": (lambda x: torch.sub(SOME, x, alpha=3), (3, 4)),
    "rsub": (lambda x: 1 - x, (3, 4)),
    "mul constant": (lambda x: x * SOME, (3, 4)),
    "mul broadcast": (lambda x: x * SOME, (1, 4)),
    "mul itself": (lambda x: x * x, (3, 4)),
    "div constant": (lambda x: x / SOME, (3, 4)),
    "div by": (lambda x: 2 / x, (3, 4)),
    "maximum": (lambda x: torch.maximum(x, SOME), (3, 4)),
    "where": (lambda x: torch.where(MASK, x, SOME), (3, 4)),
    "masked_fill": (lambda x: x.masked_fill(~MASK, 0.0), (3, 4)),
    "fill": (lambda x: torch.zeros(3, 4).double().fill_(x[0]), (1,)),
    "lerp": (lambda x: torch.lerp(x, SOME, 0.25), (3, 4)),
    "addcmul": (lambda x: torch.addcmul(SOME, x, SOME, value=2), (3, 4)),
    "addcdiv": (lambda x: torch.addcdiv(SOME, x, SOME, value=2), (3, 4)),
    "linear": (lambda x: F.linear(x, W.T), (3, 4)),
    "addmm": (lambda x: F.linear(x, W.T, W[0]), (3, 4)),
    "bias": (lambda x: torch.addmm(x, SOME, W, beta=2), (6,)),
    "matrix from left": (lambda x: W.T @ x, (4, 3)),
    "mv": (lambda x: W.T @ x, (4,)),
    "matmul vector": (lambda x: x @ V, (3, 4)),
    "dot": (lambda x: x @ V, (4,)),
    "bmm": (lambda x: B3 @ x, (2, 5, 3)),
    "baddbmm": (lambda x: torch.baddbmm(B3[:, :, :3], B3, x, alpha=2), (2, 5, 3)),
    "linear over sequences": (lambda x: F.linear(x, W.T, W[0]), (2, 3, 4)),
    "patches": (lambda x: F.conv2d(x, K2, stride=3), (2, 2, 6, 6)),
    "one by one": (lambda x: F.conv2d(x, K2[:, :, :1, :1], stride=1), (2, 2, 5, 5)),
    "transposed patches": (lambda x: F.conv_transpose2d(x, K2, stride=3), (2, 4, 2, 2)),
    "batch norm": (
        lambda x: F.batch_norm(x, V, V.abs() + 0.1, V, V, eps=0.1),
        (3, 4),
    ),
    "batch norm train": (lambda x: F.batch_norm(x, None, None, V, V, True), (5, 4)),
    "layer norm": (lambda x: F.layer_norm(x, (5,)), (3, 5)),
    "layer norm of 2": (lambda x: F.layer_norm(x, (2,), eps=0.1), (3, 2)),
    "layer norm of 1": (lambda x: F.layer_norm(x, (1,)), (3, 1)),
    "instance norm": (lambda x: F.instance_norm(x), (2, 3, 4)),
    "group norm": (lambda x: F.group_norm(x, 2), (2, 4, 3)),
    "log-softmax": (lambda x: torch.log_softmax(1e3 * x + torch.tensor([1e6, 0, 0]).double(), 1), (1, 3)),
    "max": (lambda x: x.amax(1), (3, 4)),
    "max with index": (lambda x: x.max(1).values, (3, 4)),
    "sort": (lambda x: x.sort(1).values, (3, 4)),
    "topk": (lambda x: x.topk(2, 1).values, (3, 4)),
    "median": (lambda x: x.median(), (3, 4)),
    "logsumexp": (lambda x: torch.logsumexp(1e3 * x, 1), (3, 4)),
    "sum": (torch.sum, (3, 4)),
    "sum over": (lambda x: x.sum((0, 2)), (3, 4, 2)),
    "mean": (torch.mean, (3, 4)),
    "mean over": (lambda x: x.mean(1, keepdim=True), (3, 4)),
    "norm": (lambda x: x.norm(dim=1), (3, 4)),
    "1-norm": (lambda x: torch.linalg.vector_norm(x, 1, 1), (3, 4)),
    "inf-norm": (lambda x: torch.linalg.vector_norm(x, math.inf, 1), (3, 4)),
    "std": (lambda x: x.std(1), (3, 4)),
    "var": (lambda x: x.var(1), (3, 4)),
    "prod": (lambda x: x.prod(1), (3, 4)),
    "cumsum": (lambda x: x.cumsum(1), (3, 4)),
    "cat": (lambda x: torch.cat([x, 2 * x], 1), (3, 4)),
    "cat of parts": (lambda x: torch.cat([x[:, 2:], x[:, :2]], 1), (3, 4)),
    "stack": (lambda x: torch.stack([x, SOME, x]), (3, 4)),
    "repeat": (lambda x: x.repeat(2, 3), (3, 4)),
    "expand": (lambda x: x.expand(3, 4) @ torch.eye(4).double(), (1, 4)),
    "unfold": (lambda x: x.unfold(1, 3, 1).clone(), (3, 5)),
    "roll": (lambda x: x.roll(1, 0), (3, 4)),
    "flip": (lambda x: x.flip(1), (3, 4)),
    "tril": (torch.tril, (3, 4)),
    "index": (lambda x: x[INDEX], (3, 4)),
    "index by mask": (lambda x: x[MASK], (3, 4)),
    "index_select": (lambda x: x.index_select(1, INDEX), (3, 4)),
    "gather": (lambda x: x.gather(1, INDEX.expand(3, -1)), (3, 4)),
    "embedding": (lambda x: F.embedding(INDEX, x), (3, 4)),
    "pad": (lambda x: F.pad(x, (1, 2)), (3, 4)),
    "crop": (lambda x: F.pad(x, (-1, 2)), (3, 4)),
    "reflect": (lambda x: F.pad(x, (1, 2), mode="reflect"), (1, 2, 4)),
    "replicate": (lambda x: F.pad(x, (1, 2, 0, 3), mode="replicate"), (1, 2, 4, 3)),
    "im2col": (lambda x: F.unfold(x, 2), (1, 2, 4, 3)),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), (1, 4, 2, 3)),
    "index_add": (spread_over, (3, 4)),
    "index_put": (put, (3, 2)),
    "scatter": (lambda x: torch.zeros(3, 4).double().scatter(1, INDEX[:2].expand(3, -1), x), (3, 2)),
    "scatter_add": (
        lambda x: torch.zeros(3, 4).double().scatter_add(1, INDEX.expand(3, -1), x),
        (3, 5),
    ),
    "max pool": (lambda x: F.max_pool2d(x, 2), (1, 2, 4, 4)),
    "max pool 1d": (lambda x: F.max_pool1d(x, 2, 3), (1, 2, 8)),
    "avg pool": (lambda x: F.avg_pool2d(x, 2), (1, 2, 4, 4)),
    "avg pool overlapping": (lambda x: F.avg_pool2d(x, 3, 1, 1), (1, 1, 5, 4)),
    "avg pool without padding": (
        lambda x: F.avg_pool2d(x, (3, 2), 2, 1, True, False),
        (1, 1, 5, 4),
    ),
    "avg pool by divisor": (lambda x: F.avg_pool2d(x, 3, 1, 1, divisor_override=2), (1, 1, 5, 4)),
    "avg pool 1d": (lambda x: F.avg_pool1d(x, 3, 1, 1), (1, 2, 6)),
    "avg pool 3d": (lambda x: F.avg_pool3d(x, 2, 1), (1, 1, 3, 3, 3)),
    "adaptive avg pool": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (1, 2, 5, 4)),
    "adaptive avg pool 1": (lambda x: F.adaptive_avg_pool2d(x, 1), (1, 2, 5, 4)),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), (1, 2, 3, 4)),
    "nearest odd": (lambda x: F.interpolate(x, size=(5, 7)), (1, 2, 3, 4)),
    "linear resize": (lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"), (1, 2, 5)),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (1, 1, 3, 4)),
    "bilinear corners": (
        lambda x: F.interpolate(x, size=(5, 3), mode="bilinear", align_corners=True),
        (1, 1, 3, 4),
    ),
    "bicubic": (lambda x: F.interpolate(x, size=(5, 6), mode="bicubic"), (1, 1, 3, 4)),
    "trilinear": (lambda x: F.interpolate(x, size=(3, 4, 2), mode="trilinear"), (1, 1, 2, 3, 3)),
    "in place": (lambda x: in_place(0 * x), (3, 4)),
    "part in place": (part_in_place, (3, 4)),
    "part from part": (part_from_part, (3, 4)),
    "written": (written, (3, 4)),
    "float": (lambda x: x.float().double(), (3, 4)),
    "dropout": (lambda x: F.dropout(x, 0.5, True), (3, 4)),
    "squeezed in place": (lambda x: (2 * x).t_(), (3, 4)),
    "random": (lambda x: x + (2 * x).normal_(), (3, 4)),
    "constant": (lambda x: torch.zeros_like(x) + x[:1], (3, 4)),
    "jump": (lambda x: torch.sign(x) + x, (3, 4)),
    "mask of its own": (lambda x: torch.where(x > 0, 2 * x, SOME), (3, 4)),
    "mse": (lambda x: F.mse_loss(x, SOME), (3, 4)),
    "nll": (lambda x: F.nll_loss(x, INDEX[:3], W[0, :4].abs()), (3, 4)),
}

# Bounds that need not be met.
LOOSE: dict[str, tuple[Function, tuple[int, ...]]] = {
    "sigmoid": (torch.sigmoid, (3, 4)),
    "tanh": (torch.tanh, (3, 4)),
    "selu": (F.selu, (3, 4)),
    "silu": (F.silu, (3, 4)),
    "mish": (F.mish, (3, 4)),
    "gelu": (F.gelu, (3, 4)),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), (3, 4)),
    "hardswish": (F.hardswish, (3, 4)),
    "hardsigmoid": (F.hardsigmoid, (3, 4)),
    "hardtanh": (F.hardtanh, (3, 4)),
    "relu6": (F.relu6, (3, 4)),
    "softplus": (lambda x: F.softplus(x, 3.0, 2.0), (3, 4)),
    "logsigmoid": (F.logsigmoid, (3, 4)),
    "softshrink": (F.softshrink, (3, 4)),
    "hardshrink": (F.hardshrink, (3, 4)),
    "threshold": (lambda x: F.threshold(x, 0.5, 3.0), (3, 4)),
    "softsign": (F.softsign, (3, 4)),
    "tanhshrink": (F.tanhshrink, (3, 4)),
    "rrelu": (lambda x: F.rrelu(x, training=True), (3, 4)),
    "sin": (torch.sin, (3, 4)),
    "cos": (torch.cos, (3, 4)),
    "atan": (torch.atan, (3, 4)),
    "erf": (torch.erf, (3, 4)),
    "mul of two": (lambda x: torch.sin(x) * x, (3, 4)),
    "div of two": (lambda x: x / (2 + torch.sin(x)), (3, 4)),
    "addcmul of two": (lambda x: torch.addcmul(x, x, x), (3, 4)),
    "lerp by": (lambda x: torch.lerp(x, SOME, torch.sin(x)), (3, 4)),
    "maximum of two": (lambda x: torch.maximum(x, 2 - 3 * x), (3, 4)),
    "minimum broadcast": (lambda x: torch.minimum(x, x[:1]), (3, 4)),
    "hypot": (lambda x: torch.hypot(x, 1 + x), (3, 4)),
    "logaddexp": (lambda x: torch.logaddexp(x, -x), (3, 4)),
    "where of two": (lambda x: torch.where(MASK, x, 3 * x), (3, 4)),
    "masked_fill by": (lambda x: x.masked_fill(~MASK, x[0, 0]), (3, 4)),
    "clamp by": (lambda x: x.clamp(min=x[:1]), (3, 4)),
    "prelu by": (lambda x: F.prelu(SOME, x), (4,)),
    "mm of two": (lambda x: x @ x, (4, 4)),
    "mm left": (lambda x: torch.sin(x) @ W, (3, 4)),
    "addmm all": (lambda x: torch.addmm(x, x, x, beta=0.5, alpha=2), (4, 4)),
    "bmm of two": (lambda x: x @ torch.sin(x).mT, (2, 3, 4)),
    "dot of two": (lambda x: x @ torch.sin(x), (4,)),
    "conv1d": (lambda x: F.conv1d(x, K1, padding=1), (2, 2, 7)),
    "conv2d": (lambda x: F.conv2d(x, K2, padding=1), (2, 2, 6, 5)),
    "conv2d unpadded": (lambda x: F.conv2d(x, K2), (2, 2, 6, 5)),
    "conv2d padded far": (lambda x: F.conv2d(x, K2, padding=4), (1, 2, 3, 4)),
    "conv2d strided": (lambda x: F.conv2d(x, K2, V, stride=2, padding=1), (2, 2, 6, 5)),
    "conv2d dilated": (lambda x: F.conv2d(x, K2, padding=2, dilation=2), (2, 2, 6, 5)),
    "conv2d strided dilated": (lambda x: F.conv2d(x, K2, stride=3, padding=2, dilation=2), (2, 2, 8, 7)),
    "conv2d mixed": (lambda x: F.conv2d(x, K2, stride=(1, 2), padding=(0, 1)), (2, 2, 6, 5)),
    "conv2d groups": (lambda x: F.conv2d(x, KG, padding=1, groups=4), (2, 4, 6, 5)),
    "conv2d grouped": (lambda x: F.conv2d(x, K2, padding=1, groups=2), (1, 4, 5, 5)),
    "conv2d same": (lambda x: F.conv2d(x, K2, padding="same", dilation=2), (2, 2, 6, 5)),
    "conv3d": (lambda x: F.conv3d(x, K3, padding=1), (1, 2, 3, 4, 3)),
    "conv transposed": (lambda x: F.conv_transpose2d(x, KT, stride=2, padding=1), (1, 2, 4, 3)),
    "conv transposed more": (
        lambda x: F.conv_transpose2d(x, KT, stride=2, padding=1, output_padding=1, dilation=2),
        (1, 2, 4, 3),
    ),
    "conv transposed groups": (lambda x: F.conv_transpose2d(x, K2, groups=2, stride=2), (1, 4, 3, 3)),
    "conv by input": (lambda x: F.conv1d(K1, x[:, :, :2]), (3, 2, 3)),
    "conv of two": (lambda x: F.conv1d(x, torch.sin(x[:, :, :2]), padding=1), (2, 2, 4)),
    "conv transposed by input": (lambda x: F.conv_transpose1d(K1, x, stride=2), (2, 3, 2)),
    "circular by ops": (lambda x: F.conv1d(F.pad(x, (1, 1), mode="circular"), K1), (1, 2, 5)),
    "layer norm affine": (lambda x: F.layer_norm(x, (4,), V, V), (3, 4)),
    "layer norm over two": (lambda x: F.layer_norm(x, (3, 4), SOME), (2, 3, 4)),
    "layer norm by": (lambda x: F.layer_norm(SOME + x, (4,), x[0], x[1]), (3, 4)),
    "group norm affine": (lambda x: F.group_norm(x, 2, V, V), (2, 4, 3)),
    "group norm by": (lambda x: F.group_norm(x, 2, x[0, :, 0], x[1, :, 0]), (2, 4, 3)),
    "instance norm affine": (lambda x: F.instance_norm(x, weight=V, bias=V), (2, 4, 3)),
    "rms norm": (lambda x: F.rms_norm(x, (4,), V), (3, 4)),
    "batch norm affine train": (lambda x: F.batch_norm(x, None, None, V, V, True), (2, 4, 3)),
    "softmax rows": (lambda x: torch.softmax(x / 3, -1), (3, 4)),
    "log-softmax rows": (lambda x: F.log_softmax(x, 0), (3, 4)),
    "cross entropy": (lambda x: F.cross_entropy(x, INDEX[:3]), (3, 4)),
    "3-norm": (lambda x: torch.linalg.vector_norm(x, 3, 1), (3, 4)),
    "1.5-norm": (lambda x: torch.linalg.vector_norm(x, 1.5), (3, 4)),
    "var_mean": (lambda x: torch.cat(torch.var_mean(x, 1)), (3, 4)),
    "std_mean": (lambda x: torch.cat(torch.std_mean(x, 1)), (3, 4)),
    "max pool overlapping": (lambda x: F.max_pool2d(x, 3, 1, 1), (1, 1, 4, 4)),
    "max pool dilated": (lambda x: F.max_pool2d(x, 2, 1, 1, 2), (1, 1, 5, 4)),
    "max pool ceil": (lambda x: F.max_pool2d(x, 3, 2, 1, 1, True), (1, 1, 5, 4)),
    "max pool 3d": (lambda x: F.max_pool3d(x, 2, 1), (1, 1, 3, 3, 3)),
    "adaptive max pool": (lambda x: F.adaptive_max_pool2d(x, (3, 2)), (1, 1, 4, 5)),
    "gates": (gates, (2, 8)),
    "part by other": (part_by_other, (3, 4)),
    "scatter reduce": (
        lambda x: torch.zeros(3, 4).double().scatter_reduce(1, INDEX.expand(3, -1), x, "mean"),
        (3, 5),
    ),
    "attention by hand": (double_softmax_attention, (4, 6)),
    "einsum": (lambda x: torch.einsum("bij,bkj->bik", x, x), (2, 3, 4)),
}

POSITIVE: dict[str, tuple[Function, tuple[int, ...]]] = {
    name: (function, (3, 4))
    for name, function in {
        "log": torch.log,
        "log2": torch.log2,
        "log10": torch.log10,
        "log1p": torch.log1p,
        "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt,
        "reciprocal": torch.reciprocal,
        "expm1": torch.expm1,
        "exp2": torch.exp2,
        "sinh": torch.sinh,
        "cosh": torch.cosh,
        "asinh": torch.asinh,
        "acosh": lambda x: torch.acosh(x + 1.1),
        "atanh": lambda x: torch.atanh(x / 50),
        "asin": lambda x: torch.asin(x / 50),
        "acos": lambda x: torch.acos(x / 50),
        "erfinv": lambda x: torch.erfinv(x / 50),
        "tan": lambda x: torch.tan(x / 50),
        "lgamma": torch.lgamma,
        "power by": lambda x: 2.0**x,
        "root": lambda x: x**0.3,
        "power of two": lambda x: x ** torch.sin(x),
    }.items()
}


def cases(table: dict[str, tuple[Function, tuple[int, ...]]]) -> list[Any]:
    return [pytest.param(*case, table is SHARP, table is POSITIVE, id=name) for name, case in table.items()]


@pytest.mark.parametrize(
    ("function", "shape", "sharp", "positive"), [*cases(SHARP), *cases(LOOSE), *cases(POSITIVE)]
)
def test_no_jacobian_exceeds_its_bound(
    function: Function, shape: tuple[int, ...], sharp: bool, positive: bool
) -> None:
    met = False
    for x in inputs(shape, positive):
        found, norm = bound_of(function, x), norm_of(function, x)
        assert found.scope != "unknown", found.reason
        assert norm <= found.value * (1 + 1e-9) + 1e-12, found
        met |= math.isfinite(norm) and norm >= found.value * (1 - 1e-6)
    assert met or not sharp


@pytest.mark.parametrize(
    ("function", "x", "slope"),
    [
        (torch.sigmoid, torch.zeros(3), 1 / 4),
        (torch.tanh, torch.zeros(3), 1.0),
        (F.softplus, torch.tensor([60.0]), 1.0),
        (F.hardswish, torch.tensor([2.9999999]).double() - 1e-7, 1.5),
        (torch.erf, torch.zeros(3), 2 / math.sqrt(math.pi)),
        (lambda x: torch.softmax(x, 0), torch.zeros(2), 1 / 2),
        (lambda x: torch.softmax(x / 3, 0), torch.tensor([0.0, 0.0, -1e4]), 1 / 6),
        (lambda x: torch.log_softmax(x, 0), torch.tensor([50.0, 0.0, 0.0, 0.0]), 2.0),
        (lambda x: F.selu(x), torch.tensor([-1e-12]), 1.0507009873554805 * 1.6732632423543772),
    ],
)
def test_the_largest_slope_is_reached(function: Function, x: Tensor, slope: float) -> None:
    found = bound_of(function, x.double())
    assert found.scope == "any input"
    assert found.value == pytest.approx(slope, rel=1e-9)
    assert norm_of(function, x.double()) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "constant"),
    [
        (F.gelu, GELU),
        (lambda x: F.gelu(x, approximate="tanh"), GELU_TANH),
        (F.silu, SILU),
        (F.mish, MISH),
    ],
)
def test_constants_of_activations(function: Function, constant: float) -> None:
    """The largest slope, found on ever finer grids."""
    low, high = -20.0, 20.0
    for _ in range(8):
        x = torch.linspace(low, high, 4001, dtype=torch.float64, requires_grad=True)
        (slopes,) = torch.autograd.grad(function(x).sum(), x)
        best = int(slopes.abs().argmax())
        low, high = x[max(0, best - 2)].item(), x[min(4000, best + 2)].item()
    assert 0 <= constant - float(slopes.abs().max()) < 2e-9


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_matrix_is_bounded_by_its_entries(layout: torch.layout) -> None:
    matrix = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]], dtype=torch.float64)
    function = torch.ops.aten.mm.default
    given = (matrix.to_sparse(layout=layout), torch.ones(3, 2, dtype=torch.float64))
    seen = Seen("aten::mm", function, given, {}, (False, True), "", 0)
    assert gain(seen)(function(*given)).factors() == pytest.approx((5.0,))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (torch.linalg.inv, "no rule for aten::linalg_inv_ex"),
        (lambda x: F.linear(SOME, x), None),
        (lambda x: torch.linalg.vector_norm(x, 0.5), "no rule for aten::linalg_vector_norm"),
        (lambda x: torch.fmod(SOME[:, :3], x), "no rule for aten::fmod"),
        (lambda x: torch.view_as_real(torch.complex(x, x) * 2), "no rule for aten::complex"),
    ],
)
def test_what_has_no_rule_is_unknown(function: Function, expected: str | None) -> None:
    found = bound_of(function, torch.eye(4, dtype=torch.float64)[:3, :3] if expected else draw(5, 4))
    if expected is None:
        assert found.scope == "any input"
    else:
        assert (found.scope, found.value, found.reason) == ("unknown", math.inf, expected)


def test_activations_are_read_before_they_are_overwritten() -> None:
    def function(x: Tensor) -> Tensor:
        y = torch.exp(x)
        z = y * y
        y.zero_()
        return z

    x = torch.ones(3, dtype=torch.float64)
    assert bound_of(function, x).value == pytest.approx(2 * math.e**2)


def test_a_whole_that_is_overwritten_is_gone() -> None:
    def function(x: Tensor) -> Tensor:
        y = 5 * x
        y.copy_(2 * x)
        return y

    assert bound_of(function, draw(3, 4)).value == 2.0
