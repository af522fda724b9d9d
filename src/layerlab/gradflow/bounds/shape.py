"""How much operations amplify that move, pick, repeat, sum or average entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layerlab.gradflow.bounds.arguments import Arguments, Law, Rule, largest, numbers, repeats
from layerlab.gradflow.bounds.operator_norms import largest_norm


def _copies(name: str, reason: str) -> Rule:
    """Every entry of the result is 0 or an entry of the argument: the root of how often one is taken.

    Counted by sending the entries' numbers through the operation.
    """

    def rule(a: Arguments) -> Law:
        given = a[name]
        ids = torch.arange(1, given.numel() + 1, dtype=torch.float64, device=given.device)
        taken = a.again(name, ids.reshape(given.shape)).flatten().long()
        counts = taken[taken > 0].bincount()
        return Law({name: largest(counts.double()) ** 0.5}, reason)

    return rule


def _at_most_1(name: str, reason: str) -> Rule:
    """No entry counts twice: entries moved or picked, all different, or averaged with weights of sum 1."""
    return lambda a: Law({name: 1.0}, reason)


def _nothing(a: Arguments) -> Law:
    """Random numbers in place of what was there."""
    return Law({"self": 0.0}, "random numbers")


def _joined(a: Arguments) -> Law:
    return Law({"tensors": 1.0}, "concatenation: root of the sum of squares", combine="rss")


def _copy(a: Arguments) -> Law:
    source = repeats(a["src"].shape, a["self"].shape)
    return Law({"self": 0.0, "src": source}, "copy", combine="rss")


def _count(a: Arguments, result: Any, name: str = "self") -> float:
    return a[name].numel() / max(1, result.numel())


def _reduced(power: float, reason: str, name: str = "self") -> Rule:
    """n^power where a sum of n entries is taken."""

    def rule(a: Arguments) -> Callable[[Any], Law]:
        return lambda result: Law({name: max(1.0, _count(a, result, name)) ** power}, reason)

    return rule


def _vector_norm(a: Arguments) -> Callable[[Any], Law] | None:
    order = a.get("ord", a.get("p", 2))
    if not order >= 1:
        return None
    power = max(0.0, 1 / float(order) - 0.5)
    return lambda result: Law(
        {"self": max(1.0, _count(a, result)) ** power}, f"{order:g}-norm: at most n^max(0, 1/p − 1/2)"
    )


def _deviation(a: Arguments) -> Callable[[Any], Law]:
    """∂var = 2(x − m)/(n − c), and ∂std = (x − m)/((n − c) std), of norm 1/√(n − c) whatever the inputs."""
    x, correction = numbers(a["self"]), float(a.get("correction", 1))
    dims = a.get("dim") or list(range(x.ndim))
    root, with_mean = "std" in a.seen.name, "mean" in a.seen.name
    count = math.prod(x.shape[d] for d in dims)
    free = max(count - correction, 0.0)
    if root:
        slope = 1 / math.sqrt(free) if free else math.inf
    else:
        away = (x - x.mean(dims, keepdim=True)).square().sum(dims).sqrt()
        slope = 2 * largest(away) / free if free else math.inf
    slope = math.hypot(slope, 1 / math.sqrt(count)) if with_mean else slope
    reason = "standard deviation" if root else "variance at these inputs"
    return lambda result: Law({"self": slope}, reason, "any input" if root else "these inputs")


def _prod(a: Arguments) -> Law:
    x = numbers(a["self"])
    x = x.flatten()[None] if a.get("dim") is None else x.movedim(int(a["dim"]), -1)
    ones = torch.ones_like(x[..., :1])
    before = torch.cat([ones, x[..., :-1]], -1).cumprod(-1)
    after = torch.cat([x[..., 1:], ones], -1).flip(-1).cumprod(-1).flip(-1)
    return Law({"self": largest((before * after).norm(dim=-1))}, "product at these inputs", "these inputs")


def _cumsum(a: Arguments) -> Law:
    n = a["self"].shape[int(a["dim"])] if a["self"].ndim else 1
    # The inverse is a difference matrix; its smallest singular value is 2 sin(π/(4n + 2)).
    return Law({"self": 1 / (2 * math.sin(math.pi / (4 * n + 2)))}, "cumulative sum")


def _most_taken(a: Arguments) -> float:
    """How often, at most, an entry of ``self`` is written to."""
    target = torch.zeros(a["self"].shape, dtype=torch.float64)
    if "index_put" in a.seen.name:
        ones = torch.ones((), dtype=torch.float64)
        return largest(torch.ops.aten.index_put(target, list(a["indices"]), ones, True))
    dim, index = int(a["dim"]), a["index"]
    if "index_add" in a.seen.name:
        return largest(index.bincount().double())
    return largest(target.scatter_add(dim, index, torch.ones(index.shape, dtype=torch.float64)))


def _written(source: str) -> Rule:
    """Entries of ``source`` replace or are added to entries of ``self``."""

    def rule(a: Arguments) -> Callable[[Any], Law] | Law | None:
        name, reduce = a.seen.name, a.get("reduce")
        if reduce not in (None, "add", "sum", "mean", "amax", "amin"):
            return None
        adds = "add" in name or a.get("accumulate", False) or reduce in ("add", "sum")
        most = _most_taken(a) if adds else 1.0
        alpha = abs(float(a.get("alpha", 1)))
        spread = 1.0
        if "index_put" in name:
            places = torch.ops.aten.index(torch.zeros(()).expand(a["self"].shape), list(a["indices"]))
            spread = repeats(a[source].shape, places.shape)
        if a.get(source) is None or not isinstance(a[source], Tensor):
            return Law({"self": 1.0}, "scatter")
        together = adds or reduce is not None
        return Law(
            {"self": 1.0, source: alpha * spread * most**0.5},
            "scatter",
            combine="sum" if together else "rss",
        )

    return rule


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """In how many windows a place lies at most."""
    counts = torch.zeros(size, dtype=torch.int64)
    for tap in range(kernel):
        # Windows start at i s − p, i ≥ 0; also those that `ceil_mode` adds.
        counts[[place for place in range(tap * dilation - padding, size, stride) if place >= 0]] += 1
    return int(counts.max())


def _each(value: Any, dims: int, default: Any = None) -> list[int]:
    value = default if value is None or value == [] else value
    values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return values * dims if len(values) == 1 else values


def _max_pool(dims: int) -> Rule:
    def rule(a: Arguments) -> Law:
        kernel = _each(a["kernel_size"], dims)
        stride = _each(a.get("stride"), dims, kernel)
        padding, dilation = _each(a["padding"], dims), _each(a["dilation"], dims)
        sizes = a["self"].shape[-dims:]
        most = math.prod(map(_windows, sizes, kernel, stride, padding, dilation))
        return Law({"self": math.sqrt(most)}, "max-pooling: root of the windows' overlap")

    return rule


def _adaptive_max_pool(dims: int) -> Rule:
    def rule(a: Arguments) -> Law:
        most = 1
        for size, out in zip(a["self"].shape[-dims:], _each(a["output_size"], dims), strict=True):
            most *= int((_adaptive_line(size, out) > 0).sum(1).max())
        return Law({"self": math.sqrt(most)}, "max-pooling: root of the windows' overlap")

    return rule


def _adaptive_line(size: int, out: int) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool1d(torch.eye(size, dtype=torch.float64)[None], out)[0]


def _separable(reason: str, dims: int, line: Callable[[Arguments, int, int], Tensor]) -> Rule:
    """A product of one map for each dimension: its norm is the product of theirs."""

    def rule(a: Arguments) -> Law:
        sizes = a["self"].shape[-dims:]
        value = math.prod(largest_norm(line(a, d, sizes[d])) for d in range(dims))
        if a.get("divisor_override") is not None:
            value *= math.prod(_each(a["kernel_size"], dims)) / abs(int(a["divisor_override"]))
        return Law({"self": value}, reason)

    return rule


def _average_line(dims: int) -> Callable[[Arguments, int, int], Tensor]:
    def line(a: Arguments, d: int, size: int) -> Tensor:
        kernel = _each(a["kernel_size"], dims)
        stride = _each(a.get("stride"), dims, kernel)
        padding = _each(a["padding"], dims)
        whole = bool(a["count_include_pad"])
        rows = torch.eye(size, dtype=torch.float64)[:, None, :, None]
        found = torch.nn.functional.avg_pool2d(
            rows,
            (kernel[d], 1),
            (stride[d], 1),
            (padding[d], 0),
            bool(a["ceil_mode"]),
            whole,
        )[:, 0, :, 0]
        if a.get("divisor_override") is None:
            return found
        # Sums over the kernel, whatever part of it lies inside: each tap counts 1/k.
        return (found > 0).double() / kernel[d]

    return line


def _adaptive_average_line(dims: int) -> Callable[[Arguments, int, int], Tensor]:
    return lambda a, d, size: _adaptive_line(size, _each(a["output_size"], dims)[d])


def _upsampled_line(kind: str, dims: int) -> Callable[[Arguments, int, int], Tensor]:
    """The map along one dimension, by the same operation on a tensor that is one wide in the others."""

    def line(a: Arguments, d: int, size: int) -> Tensor:
        rows = torch.eye(size, dtype=torch.float64)
        out = int(a["output_size"][d])
        scale = a.get("scales" if dims == 1 else ("scales_d", "scales_h", "scales_w")[d - dims])
        if kind == "linear":
            return torch.ops.aten.upsample_linear1d(rows[None], [out], bool(a["align_corners"]), scale)[0]
        return torch.ops.aten.upsample_bicubic2d(
            rows[:, None, :, None], [out, 1], bool(a["align_corners"]), scale, None
        )[:, 0, :, 0]

    return line


_COPIED = {
    "repeat": "repetition: root of the copies",
    "tile": "repetition: root of the copies",
    "roll": "rolling",
    "flip": "flipping",
    "rot90": "rotation",
    "tril": "triangle",
    "triu": "triangle",
    "index": "selection: root of how often an entry is taken",
    "index_select": "selection: root of how often an entry is taken",
    "gather": "selection: root of how often an entry is taken",
    "take": "selection: root of how often an entry is taken",
    "masked_select": "selection",
    "im2col": "unfolding: root of the windows' overlap",
    "pixel_shuffle": "shuffling",
    "pixel_unshuffle": "shuffling",
    "channel_shuffle": "shuffling",
    "diag_embed": "diagonal",
    "repeat_interleave": "repetition: root of the copies",
    "unfold_copy": "unfolding",
}
_PADS = [f"{kind}_pad{d}d" for kind in ("reflection", "replication") for d in (1, 2, 3)]
_NEAREST = [f"{kind}{d}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for d in (1, 2, 3)]
_MOVED = ("transpose_", "t_", "squeeze_", "unsqueeze_", "swapaxes_", "swapdims_", "as_strided_")
_ALIASES = ("_unsafe_view", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "lift_fresh", "alias")
_DRAWN = ("normal", "uniform", "exponential")
_EXTREMES = ("amax", "amin", "max", "min", "median", "nanmedian", "kthvalue", "topk", "sort", "msort")

RULES: dict[str, Rule] = {
    **{f"aten::{name}": _copies("self", reason) for name, reason in _COPIED.items()},
    # Counting would be a waste where nothing is repeated.
    **{
        f"aten::{name}": _at_most_1("self", "copy") for name in ("clone", "contiguous", "_to_copy", *_ALIASES)
    },
    **{f"aten::{name}": _at_most_1("self", "transposition") for name in _MOVED},
    "aten::constant_pad_nd": _at_most_1("self", "padding"),
    **{f"aten::{name}": _copies("self", "padding: root of the copies") for name in _PADS},
    **{f"aten::{name}": _copies("self", "nearest-neighbour resize: root of the copies") for name in _NEAREST},
    "aten::embedding": _copies("weight", "embedding: root of how often a row is taken"),
    **{f"aten::{name}": _nothing for name in _DRAWN},
    "aten::cat": _joined,
    "aten::stack": _joined,
    "aten::copy": _copy,
    "aten::sum": _reduced(0.5, "sum: root of the number of terms"),
    "aten::nansum": _reduced(0.5, "sum: root of the number of terms"),
    "aten::mean": _reduced(-0.5, "mean: 1/√n"),
    "aten::logsumexp": _at_most_1("self", "log of a sum of exponentials: at most 1"),
    **{f"aten::{name}": _at_most_1("self", "order statistic: at most 1") for name in _EXTREMES},
    "aten::linalg_vector_norm": _vector_norm,
    "aten::norm": _vector_norm,
    **{f"aten::{name}": _deviation for name in ("var", "std", "var_mean", "std_mean")},
    "aten::prod": _prod,
    "aten::cumsum": _cumsum,
    **{f"aten::{name}": _written("src") for name in ("scatter", "scatter_add", "scatter_reduce")},
    "aten::index_add": _written("source"),
    "aten::index_put": _written("values"),
    "aten::_index_put_impl": _written("values"),
    "aten::max_pool2d_with_indices": _max_pool(2),
    "aten::max_pool3d_with_indices": _max_pool(3),
    "aten::max_pool1d": _max_pool(1),
    "aten::adaptive_max_pool2d": _adaptive_max_pool(2),
    "aten::adaptive_max_pool3d": _adaptive_max_pool(3),
    **{
        f"aten::avg_pool{d}d": _separable("average pooling: spectral norm", d, _average_line(d))
        for d in (1, 2, 3)
    },
    **{
        f"aten::_adaptive_avg_pool{d}d": _separable(
            "average pooling: spectral norm", d, _adaptive_average_line(d)
        )
        for d in (2, 3)
    },
    **{
        f"aten::upsample_{name}{d}d": _separable("resize: spectral norm", d, _upsampled_line(kind, d))
        for name, kind, d in (
            ("linear", "linear", 1),
            ("bilinear", "linear", 2),
            ("trilinear", "linear", 3),
            ("bicubic", "cubic", 2),
        )
    },
}
