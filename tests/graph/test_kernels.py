"""Fused kernels against their slow twins: values, gradients, random words, threads, registration, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph import attention, ops
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.models import GAT, GCN
from layerlab.graph.sparse import Pattern, SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab import kernels
from layerlab.lab.kernels import threads
from layerlab.lab.random import drop_threshold, words

K = torch.ops.layerlab
TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-11, "atol": 1e-13}}


def matrix(rows: int, columns: int, density: float, seed: int = 0, dtype=torch.float64, index=torch.int32):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, columns, generator=generator, dtype=dtype)
    sparse = SparseMatrix.from_dense(dense * (torch.rand(rows, columns, generator=generator) < density))
    pattern = Pattern(sparse.crow.to(index), sparse.col.to(index), sparse.shape)
    return SparseMatrix(pattern, sparse.values)


def randn(*shape: int, seed: int = 1, dtype=torch.float64, grad: bool = True) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_(grad)


def both_paths(function, *inputs: Tensor) -> None:
    """Values and gradients of the kernels equal those of plain torch."""

    def run() -> list[Tensor]:
        out = function(*inputs)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs, materialize_grads=True)]

    fast = run()
    with kernels.disabled():
        slow = run()
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[a.dtype])


SHAPES = [(7, 5, 0.4), (5, 7, 0.4), (1, 1, 1.0), (6, 6, 0.0), (0, 3, 1.0), (40, 33, 0.2)]


@pytest.mark.parametrize(("rows", "columns", "density"), SHAPES)
@pytest.mark.parametrize("width", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 24, 31, 32, 33, 71])
def test_spmm(rows: int, columns: int, density: float, width: int) -> None:
    for dtype, index in ((torch.float32, torch.int32), (torch.float64, torch.int64)):
        m = matrix(rows, columns, density, dtype=dtype, index=index)
        inputs = (
            m.values.clone().requires_grad_(),
            randn(columns, width, dtype=dtype),
            randn(width, seed=2, dtype=dtype),
        )
        both_paths(lambda v, x, b, m=m: ops.spmm(m.with_values(v), x, b), *inputs)


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activation(activation: str, dtype: torch.dtype) -> None:
    for shape in ((), (0, 3), (1,), (7, 9), (1000, 3)):
        x = (3 * randn(*shape, dtype=dtype)).detach().requires_grad_()
        both_paths(lambda t: ops.activation_dropout(t, activation, 0.3, training=False), x)


def test_activation_at_the_edges() -> None:
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, -1e-4, -90.0, -torch.inf, torch.inf, torch.nan] * 3)
    for activation, twin in (("relu", torch.relu), ("elu", torch.nn.functional.elu)):
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        a, b = ops.activation_dropout(ours, activation, 0.0, True), twin(theirs)
        torch.testing.assert_close(a, b, rtol=2e-7, atol=0, equal_nan=True)
        finite = torch.isfinite(x)
        a[finite].sum().backward()
        b[finite].sum().backward()
        torch.testing.assert_close(ours.grad[finite], theirs.grad[finite], rtol=2e-7, atol=1e-37)


def test_exponential_is_right_to_two_units_in_the_last_place() -> None:
    from numba import njit

    from layerlab.lab.kernels.vector import exponential, exponential_minus_one, load, store, zeros

    @njit
    def both(x, plain, minus_one):
        for i in range(0, len(x), 8):
            v = load(zeros(x, 8), x, np.uint64(i))
            store(plain, np.uint64(i), exponential(v))
            store(minus_one, np.uint64(i), exponential_minus_one(v))

    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-87.3, 88, 1 << 18), rng.uniform(-1, 1, 1 << 18), np.zeros(8)])
    x = x.astype(np.float32)
    plain, minus_one = np.empty_like(x), np.empty_like(x)
    both(x, plain, minus_one)
    for ours, exact, where in (
        (plain, np.exp(x.astype(np.float64)), slice(None)),
        (minus_one, np.expm1(x.astype(np.float64)), x <= 0),
    ):
        unit = np.spacing(np.abs(exact).astype(np.float32))
        assert (np.abs(ours - exact) / unit)[where].max() < 2


ATTENTION = [
    (13, 13, 0.3, 8, 8),
    (9, 13, 0.3, 3, 5),
    (6, 6, 0.0, 2, 4),
    (1, 1, 1.0, 1, 1),
    (20, 30, 0.5, 17, 13),
]


@pytest.mark.parametrize(("rows", "columns", "density", "heads", "width"), ATTENTION)
@pytest.mark.parametrize("vectors", ["per-head", "shared"])
def test_attention(rows: int, columns: int, density: float, heads: int, width: int, vectors: str) -> None:
    for dtype, index in ((torch.float32, torch.int32), (torch.float64, torch.int64)):
        pattern = matrix(rows, columns, density, dtype=dtype, index=index).pattern
        number = heads if vectors == "per-head" else 1
        inputs = (
            randn(columns, heads * width, seed=1, dtype=dtype),
            randn(number, width, seed=2, dtype=dtype),
            randn(number, width, seed=3, dtype=dtype),
            randn(heads * width, seed=4, dtype=dtype),
        )
        both_paths(
            lambda *tensors, pattern=pattern: attention.attend(pattern, *tensors, heads=heads), *inputs
        )


def test_attention_survives_scores_of_any_size() -> None:
    pattern = matrix(3, 3, 1.0, dtype=torch.float32).pattern
    z = torch.tensor([[3e38], [-3e38], [3e38]])
    out = attention.attend(pattern, z, torch.zeros(1, 1), torch.ones(1, 1), heads=1)
    assert torch.equal(out, torch.full((3, 1), 3e38))


def keep_mask(seed: int, shape: tuple[int, ...], p: float) -> Tensor:
    elements = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return torch.from_numpy(words(seed, 0, elements) >= drop_threshold(p)).double() / (1 - p)


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_dropout_draws_the_words_of_the_twin() -> None:
    seed = 1234567890123456789
    x = randn(300, 7, dtype=torch.float64, grad=False)
    for activation, twin in ((0, lambda t: t), (1, torch.relu), (2, torch.nn.functional.elu)):
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        out = K.activate(ours, activation, torch.tensor([seed]), 0.3)
        expected = twin(theirs) * keep_mask(seed, (300, 7), 0.3)
        torch.testing.assert_close(out, expected, rtol=1e-14, atol=1e-15)
        (out * x).sum().backward()
        (expected * x).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("heads", "width"), [(8, 8), (3, 5), (1, 7)])
def test_attention_drops_the_coefficients_that_the_twin_drops(heads: int, width: int) -> None:
    seed = 987654321
    m = matrix(50, 60, 0.4, dtype=torch.float64)
    pattern, (other, order) = m.pattern, m.pattern.transposed()
    inputs = [randn(60, heads * width), randn(heads, width, seed=2), randn(heads, width, seed=3)]
    out = K.attention(
        *inputs, None, pattern.crow, pattern.col, other.crow, other.col, order,
        heads, pattern.longest, 0.2, torch.tensor([seed]), 0.6,
    )[0]  # fmt: skip
    coefficients = attention.coefficients_of(pattern, *inputs, heads=heads)
    kept = coefficients * keep_mask(seed, (pattern.nnz, heads), 0.6)
    with kernels.disabled():
        expected = ops.attention_aggregate(pattern, kept, inputs[0].view(60, heads, width)).flatten(1)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-14)
    weights = randn(50, heads * width, seed=5, grad=False)
    ours = torch.autograd.grad((out * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def power_law(nodes: int = 3000, seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    target = (nodes * rng.random(4 * nodes) ** 4).astype(np.int64)
    return Graph.from_edges(rng.integers(0, nodes, 4 * nodes), target, num_nodes=nodes)


def test_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every kernel, forward and backward. torch's own dense products are left out: their bits do depend on threads.
    m = power_law().normalized_adjacency()
    inputs = [
        m.values.clone().requires_grad_(),
        *(
            randn(*shape, seed=i, dtype=torch.float32)
            for i, shape in enumerate([(3000, 24), (24,), (3, 8), (3, 8)])
        ),
    ]

    def run() -> list[Tensor]:
        torch.manual_seed(1)
        values, x, bias, target, source = inputs
        hidden = ops.spmm(m.with_values(values), ops.dropout(x, 0.3, True), bias)
        hidden = ops.activation_dropout(hidden, "relu", 0.5, True)
        hidden = attention.attend(m, hidden, target, source, bias, heads=3, p=0.6, training=True)
        out = ops.activation_dropout(hidden, "elu", 0.5, True)
        return [out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out))]

    with threads_set(1):
        expected = run()
    monkeypatch.setattr(threads, "SMALL", 0)
    for count in (2, 3, 7):
        with threads_set(count):
            for a, b in zip(run(), expected, strict=True):
                assert torch.equal(a, b)


def test_parts_balance_entries_and_cover_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    crow = np.cumsum([0, *([1] * 1000), 5000, *([1] * 3000)])
    with threads_set(4):
        assert threads.parts_of(crow, 10) == [0, len(crow) - 1]
        cuts = threads.parts_of(crow, 1 << 30)
    assert cuts[0] == 0
    assert cuts[-1] == len(crow) - 1
    assert cuts == sorted(cuts)
    # The row of 5000 entries is a part of its own, or shares it with few others.
    longest = max(int(crow[b] - crow[a]) for a, b in pairwise(cuts))
    assert longest < 6100


def operator_calls() -> dict[str, tuple[object, tuple[object, ...]]]:
    m = neighbourhoods(Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 5], num_nodes=7), torch.float64)
    p, (t, order) = m.pattern, m.pattern.transposed()
    seed = torch.tensor([5])
    index, transposed = (p.crow, p.col), (t.crow, t.col)
    x, bias, values = randn(7, 3), randn(3), m.values.clone().requires_grad_()
    z, target, source, flat = randn(7, 6), randn(2, 3), randn(2, 3, seed=9), randn(6)
    saved = [
        o.detach()
        for o in K.attention(z, target, source, flat, *index, *transposed, order, 2, 4, 0.2, seed, 0.5)
    ]
    plain = [t.detach() for t in (z, target, source)]
    return {
        "spmm": (K.spmm, (m.values, *index, m.transposed_values(), *transposed, x, bias)),
        "spmm, gradient to values": (K.spmm, (values, *index, m.transposed_values(), *transposed, x, None)),
        "sampled_product": (K.sampled_product, (*index, x, randn(7, 3, seed=8))),
        "column_sum": (K.column_sum, (x,)),
        "dropout": (K.activate, (x, 0, seed, 0.5)),
        "relu": (K.activate, (x, 1, seed, 0.5)),
        "elu": (K.activate, (x, 2, None, 0.0)),
        "activate_backward": (K.activate_backward, (x.detach(), x.detach(), 2, seed, 0.5)),
        "attention": (
            K.attention,
            (z, target, source, flat, *index, *transposed, order, 2, 4, 0.2, seed, 0.5),
        ),
        "attention_backward": (
            K.attention_backward,
            (saved[0], *plain, flat.detach(), *saved, *transposed, order, 0.2, 0.5),
        ),
    }


@pytest.mark.parametrize("name", operator_calls())
def test_opcheck(name: str) -> None:
    operator, arguments = operator_calls()[name]
    torch.library.opcheck(operator.default, arguments)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["spmm, gradient to values", "dropout", "relu", "elu", "attention"])
def test_first_and_second_gradients(name: str) -> None:
    operator, arguments = operator_calls()[name]
    places = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]

    def run(*inputs: Tensor) -> Tensor:
        full = list(arguments)
        for place, tensor in zip(places, inputs, strict=True):
            full[place] = tensor
        if name.startswith("spmm"):
            m = neighbourhoods(Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 5], num_nodes=7), torch.float64)
            return ops.spmm(m.with_values(inputs[0]), inputs[1])
        out = operator(*full)  # type: ignore[operator]
        return out[0] if name == "attention" else out

    inputs = [arguments[place] for place in places]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-8)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True, atol=1e-8)


@pytest.mark.parametrize("kind", ["gcn", "gat"])
@pytest.mark.parametrize("sparse", [True, False])
def test_models_compile_into_one_graph(kind: str, sparse: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = GCN(5, 4, 3) if kind == "gcn" else GAT(5, 4, 3, heads=2)
    model = model.double()
    graphs = [power_law(60, seed) for seed in (0, 1)]
    x = matrix(60, 5, 0.5)
    features = x if sparse else x.to_dense()
    for graph in graphs:
        model(features, graph)  # normalises the graph, once; that part is numpy and cannot be traced
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for graph in graphs:
        results = []
        for net in (model, compiled):
            torch.manual_seed(1)
            model.zero_grad()
            out = net(features, graph)
            out.square().sum().backward()
            results.append([out.detach(), *(p.grad for p in model.parameters())])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_patterns_out_of_range_are_refused() -> None:
    good = matrix(4, 5, 0.5).pattern
    x = torch.ones(5, 2, dtype=torch.float64)

    def broken(crow: list[int] | None = None, col: list[int] | None = None) -> SparseMatrix:
        pattern = Pattern(
            good.crow if crow is None else torch.tensor(crow, dtype=torch.int32),
            good.col if col is None else torch.tensor(col, dtype=torch.int32),
            (4, 5),
        )
        return SparseMatrix(pattern, torch.ones(pattern.nnz, dtype=torch.float64))

    ops.spmm(broken([0, 1, 1, 2, 3], [0, 4, 2]), x)
    for matrix_ in (
        broken([0, 1, 1, 2, 3], [0, 5, 2]),
        broken([0, 1, 1, 2, 3], [0, -1, 2]),
        broken([0, 2, 1, 2, 3], [0, 1, 2]),
        broken([0, 1, 1, 2, 4], [0, 1, 2]),
        broken([1, 1, 1, 2, 3], [0, 1, 2]),
        broken([0, 1, 2, 3], [0, 1, 2]),
    ):
        with pytest.raises(UserError, match="row offsets from 0"):
            ops.spmm(matrix_, x)


def test_operators_refuse_what_does_not_fit() -> None:
    m = matrix(4, 5, 0.5)
    index = (m.crow, m.col)
    x = torch.ones(5, 2, dtype=torch.float64)
    for call in (
        lambda: K.spmm(m.values.float(), *index, None, None, None, x, None),
        lambda: K.spmm(m.values[1:], *index, None, None, None, x, None),
        lambda: K.spmm(m.values, m.crow.long(), m.col, None, None, None, x, None),
        lambda: K.spmm(m.values, *index, None, None, None, x, x[0, :1]),
        lambda: K.activate(x.half(), 1, None, 0.0),
        lambda: K.activate(x, 1, None, 0.5),
        lambda: K.activate(x, 1, torch.tensor([1]), 1.0),
        lambda: K.attention(x, x[:1], x[:1], None, *index, None, None, None, 2, 9, 0.2, None, 0.0),
        lambda: ops.spmm(m, x, torch.ones(3, dtype=torch.float64)),
        lambda: attention.attend(m, x, x[:1], x[:1], heads=2),
        lambda: attention.attend(m, x, x[:1], x[:1], heads=1, p=1.0, training=True),
    ):
        with pytest.raises(UserError):
            call()


def test_kept_transposed_values_follow_changes_in_place() -> None:
    m = matrix(6, 5, 0.5)
    x = randn(5, 2)
    for _ in range(2):
        ops.spmm(m, x).sum().backward()
        expected = m.to_dense().sum(0)[:, None].expand(5, 2)
        torch.testing.assert_close(x.grad, expected)
        x.grad = None
        m.values.mul_(3.0)
