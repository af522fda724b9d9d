"""How much matrix products and convolutions amplify: spectral norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from layerlab.gradflow.bounds.arguments import Arguments, Factor, Law, Rule, largest, numbers, repeats
from layerlab.gradflow.bounds.convolution_norm import convolution_norm
from layerlab.gradflow.bounds.operator_norms import largest_norm, matrix_norm, sparse_norm


def _of_matrix(matrix: Tensor) -> float:
    if matrix.layout == torch.strided:
        return matrix_norm(matrix)
    entries = matrix.to_sparse_coo().coalesce()
    rows, columns = entries.indices()
    return sparse_norm(rows, columns, entries.values(), (matrix.shape[0], matrix.shape[1]))


def _product(left: str, right: str, rest: str | None = None) -> Rule:
    """left @ right, of matrices, batches of them, or vectors; beta · rest + alpha · that."""

    def rule(a: Arguments) -> Law:
        one, two = a[left], a[right]
        alpha, beta = abs(float(a.get("alpha", 1))), abs(float(a.get("beta", 1)))
        both = a.depends(left) and a.depends(right)
        factors: dict[str, Factor] = {}
        if a.depends(left):
            factors[left] = _side(two, alpha, now=both)
        if a.depends(right):
            factors[right] = _side(one, alpha, now=both)
        if rest is not None and a.depends(rest):
            shape = torch.Size((*one.shape[:-1], *two.shape[max(1, two.ndim - 1) :]))
            factors[rest] = beta * repeats(a[rest].shape, shape)
        if both:
            return Law(factors, "product of two values: their spectral norms at these inputs", "these inputs")
        return Law(factors, "linear: spectral norm of the weight")

    return rule


def _side(constant: Tensor, alpha: float, *, now: bool) -> Factor:
    """The norm of a product with ``constant``; at once where it is an activation, that may be overwritten."""
    if constant.ndim == 3:
        value = largest_norm(constant)
        return alpha * value
    matrix = constant if constant.ndim == 2 else constant[None]
    if now:
        return alpha * largest_norm(matrix)
    return lambda: alpha * _of_matrix(matrix)


def _linear(a: Arguments) -> Law | None:
    if a.depends("weight") or a.depends("bias"):
        return None
    weight = a["weight"]
    return Law({"input": lambda: matrix_norm(weight)}, "linear: spectral norm of the weight")


def _convolution(a: Arguments) -> Law:
    weight, x = a["weight"], a["input"]
    transposed = bool(a.get("transposed", False))
    dims = weight.ndim - 2
    stride, padding, dilation = (_each(a[name], dims) for name in ("stride", "padding", "dilation"))
    size = list(x.shape[-dims:])
    if transposed:
        # It is the adjoint of the convolution that makes its input from its output.
        extra = _each(a["output_padding"], dims)
        size = [
            (n - 1) * s - 2 * p + d * (k - 1) + o + 1
            for n, s, p, d, k, o in zip(size, stride, padding, dilation, weight.shape[2:], extra, strict=True)
        ]
    groups = int(a["groups"])

    def norm() -> float:
        return convolution_norm(
            weight, size, stride=stride, padding=padding, dilation=dilation, groups=groups
        )[0]

    factors: dict[str, Factor] = {}
    if a.depends("input"):
        factors["input"] = norm() if a.depends("weight") else norm
    if a.depends("weight"):
        # The sum over the taps t of products of w_t with a shifted part of x.
        factors["weight"] = math.prod(weight.shape[2:]) ** 0.5 * float(numbers(x).norm())
    if a.depends("bias"):
        out = size if transposed else [n + 2 * p for n, p in zip(size, padding, strict=True)]
        factors["bias"] = math.sqrt((x.shape[0] if x.ndim == weight.ndim else 1) * math.prod(out))
    kind = "transposed convolution" if transposed else "convolution"
    if a.depends("weight"):
        return Law(factors, f"{kind} by a kernel that depends on the input", "these inputs")
    return Law(factors, f"{kind}: bound of its spectral norm")


def _each(value: Any, dims: int) -> Sequence[int]:
    values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return values * dims if len(values) == 1 else values


def _spmm(a: Arguments) -> Law | None:
    if a.depends("values"):
        return None
    values, crow, col, dense = a["values"], a["crow"], a["col"], a["dense"]

    def norm() -> float:
        rows = torch.repeat_interleave(crow[1:] - crow[:-1])
        return sparse_norm(rows, col, values, (len(crow) - 1, len(dense)))

    factors: dict[str, Factor] = {"dense": norm, "bias": float(len(crow) - 1) ** 0.5}
    return Law(factors, "graph convolution: spectral norm of the propagation")


def _dot(a: Arguments) -> Law:
    factors: dict[str, Factor] = {
        "self": float(numbers(a["tensor"]).norm()),
        "tensor": float(numbers(a["self"]).norm()),
    }
    both = len(a.dependents) == 2
    return Law(factors, "scalar product", "these inputs" if both else "any input")


def _attention_on_graph(a: Arguments) -> Any:
    """Graph attention o_i = Σ_j a_ij z_j with a the softmax over j of φ(t·z_i + s·z_j), at these inputs, for each head:

        do_i = Σ_j a_ij dz_j + Σ_j a_ij g_ij (z_j − o_i)(t·dz_i + s·dz_j),    |g_ij| = |φ'| ≤ max(1, slope),

    so the norm is at most ‖A‖ + max_i ‖Σ_j |g_ij| a_ij (z_j − o_i)‖ ‖t‖ + ‖(a_ij |g_ij| ‖z_j − o_i‖)_ij‖ ‖s‖. A dropped
    coefficient is 0 or a_ij/(1 − p); the larger of the two is taken in each place.
    """
    if any(a.depends(name) for name in ("target", "source", "bias")):
        return None
    z, crow, col, heads = numbers(a["z"]), a["crow"].long(), a["col"].long(), int(a["heads"])
    slope, keep = abs(float(a["slope"])), 1 - float(a["p"])
    rows = torch.repeat_interleave(crow[1:] - crow[:-1])
    shape = (len(crow) - 1, len(z))
    z = z.view(len(z), heads, -1)
    target, source = (numbers(a[name]).expand(heads, z.shape[2]) for name in ("target", "source"))
    bias = None if a.get("bias") is None else numbers(a["bias"])

    def law(result: Any) -> Law:
        out = numbers(result[0])
        out = (out if bias is None else out - bias).view(len(out), heads, -1)
        worst = max((_head(out, head) for head in range(heads)), default=0.0)
        return Law({"z": worst}, "graph attention: local only, not globally Lipschitz", "these inputs")

    def _head(out: Tensor, head: int) -> float:
        mine, to, by = z[:, head], target[head], source[head]
        scores = (mine @ to)[rows] + (mine @ by)[col]
        weights = torch.exp(torch.where(scores > 0, scores, float(a["slope"]) * scores) - _top(scores))
        sums = torch.zeros(shape[0], dtype=torch.float64).index_add_(0, rows, weights)
        weights = weights / sums[rows]
        slopes = weights * torch.where(scores > 0, 1.0, slope)
        away = (mine[col] / keep - out[rows, head]).norm(dim=1)
        if keep < 1:
            away = torch.maximum(away, out[rows, head].norm(dim=1))
        pulls = torch.zeros(shape[0], dtype=torch.float64).index_add_(0, rows, slopes * away)
        moved = sparse_norm(rows, col, slopes * away, shape)
        return (
            sparse_norm(rows, col, weights / keep, shape)
            + largest(pulls) * float(to.norm())
            + moved * float(by.norm())
        )

    def _top(scores: Tensor) -> Tensor:
        top = torch.full((shape[0],), -math.inf, dtype=torch.float64)
        activated = torch.where(scores > 0, scores, float(a["slope"]) * scores)
        return top.scatter_reduce(0, rows, activated, "amax")[rows]

    return law


def _column_sum(a: Arguments) -> Law:
    return Law({"x": float(a["x"].shape[0]) ** 0.5}, "sum")


RULES: dict[str, Rule] = {
    "aten::mm": _product("self", "mat2"),
    "aten::bmm": _product("self", "mat2"),
    "aten::mv": _product("self", "vec"),
    "aten::addmm": _product("mat1", "mat2", "self"),
    "aten::addmv": _product("mat", "vec", "self"),
    "aten::baddbmm": _product("batch1", "batch2", "self"),
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::linear": _linear,
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::mkldnn_convolution": _convolution,
    "aten::_sparse_mm": _product("sparse", "dense"),
    "layerlab::spmm": _spmm,
    "layerlab::column_sum": _column_sum,
    "layerlab::attention": _attention_on_graph,
}
