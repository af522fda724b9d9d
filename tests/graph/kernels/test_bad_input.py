"""Odd and wrong input to everything that ends in a kernel: the right answer, or one clear line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from layerlab.errors import UserError
from layerlab.graph import attention, ops
from layerlab.graph.convolution import convolve
from layerlab.graph.kernels.operators import keep_law
from layerlab.graph.loss import cross_entropy, scores
from layerlab.graph.models import GAT, GCN, SGC
from layerlab.graph.sparse import Pattern, SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab import kernels

NODES, WIDTH, HEADS = 20, 6, 2


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def graph(nodes: int = NODES) -> Graph:
    """A ring with chords; the last nodes have no edge."""
    ring = range(max(0, nodes - 3))
    return Graph.from_edges(
        [*ring, *ring], [(i + step) % len(ring) for step in (1, 5) for i in ring], num_nodes=nodes
    )


ADJACENCY = graph().normalized_adjacency()
VECTORS = randn(HEADS, WIDTH // HEADS, seed=1), randn(HEADS, WIDTH // HEADS, seed=2)
BIAS = randn(WIDTH, seed=3)


def spmm(x: Tensor) -> Tensor:
    return ops.spmm(ADJACENCY.to(dtype=x.dtype), x, BIAS.to(x.dtype))


def attend(x: Tensor) -> Tensor:
    target, source = (v.to(x.dtype) for v in VECTORS)
    return attention.attend(ADJACENCY, x, target, source, BIAS.to(x.dtype), heads=HEADS)


def elu(x: Tensor) -> Tensor:
    return ops.activation_dropout(x, "elu", 0.0, training=True)


def relu_and_dropout(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return ops.activation_dropout(x, "relu", 0.5, training=True)


def dropout(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return ops.dropout(x, 0.5, training=True)


FUNCTIONS = [spmm, attend, elu, relu_and_dropout, dropout]
Function = Callable[[Tensor], Tensor]


def strided(kind: str, x: Tensor) -> Tensor:
    """The same numbers, laid out otherwise."""
    if kind == "transposed":
        return x.t().contiguous().t()
    if kind == "every other":
        wide = torch.full((len(x), 2 * x.shape[1]), torch.nan)
        wide[:, ::2] = x
        return wide[:, ::2]
    if kind == "offset":
        return torch.cat([torch.full((1, x.shape[1]), torch.nan), x])[1:]
    if kind == "negative":
        return torch.complex(torch.zeros_like(x), -x).conj().imag
    return torch.empty(0).set_(x.untyped_storage(), 0, x.shape, x.stride())


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", ["transposed", "every other", "offset", "negative", "shared"])
def test_layout_does_not_matter(function: Function, kind: str) -> None:
    x = randn(NODES, WIDTH)
    other = strided(kind, x).requires_grad_()
    plain = x.clone().requires_grad_()
    out, expected = function(other), function(plain)
    assert torch.equal(out, expected)
    weights = strided("transposed", randn(*out.shape, seed=9))
    assert torch.equal(*(torch.autograd.grad(o, t, weights)[0] for o, t in ((out, other), (expected, plain))))


def test_gradients_of_any_layout() -> None:
    # What .sum() hands back is one number seen many times.
    x = randn(NODES, WIDTH).requires_grad_()
    for function in FUNCTIONS:
        (summed,) = torch.autograd.grad(function(x).sum(), x)
        (ones,) = torch.autograd.grad(function(x), x, torch.ones(NODES, WIDTH))
        assert torch.equal(summed, ones)


@pytest.mark.parametrize("function", [spmm, attend, elu])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_what_single_gives_nearly(function: Function, dtype: torch.dtype) -> None:
    x = randn(NODES, WIDTH).to(dtype).requires_grad_()
    out = function(x)
    assert out.dtype == dtype
    single = x.detach().float().requires_grad_()
    expected = function(single)
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    out.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad.float(), single.grad, rtol=0.1, atol=0.1)


def test_dropout_in_half_precision() -> None:
    torch.manual_seed(0)
    dropped = ops.dropout(torch.ones(1000, dtype=torch.bfloat16), 0.5, training=True)
    assert dropped.dtype == torch.bfloat16
    assert 0.4 < float((dropped == 2).float().mean()) < 0.6
    assert ((dropped == 0) | (dropped == 2)).all()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_what_is_no_real_number_is_refused(function: Function, dtype: torch.dtype) -> None:
    call = partial(ops.spmm, ADJACENCY) if function is spmm else function
    with pytest.raises(UserError, match="float"):
        call(randn(NODES, WIDTH).to(dtype))
    with pytest.raises(UserError, match="floating-point values"):
        SparseMatrix(ADJACENCY.pattern, ADJACENCY.values.to(dtype))


@pytest.mark.parametrize("wrong", ["dtype", "device"])
def test_tensors_that_do_not_belong_together_are_refused(wrong: str) -> None:
    x, (target, source) = randn(NODES, WIDTH), VECTORS

    def other(t: Tensor) -> Tensor:
        return t.double() if wrong == "dtype" else t.to("meta")

    calls = [
        lambda: ops.spmm(ADJACENCY, other(x)),
        lambda: ops.spmm(ADJACENCY, x, other(BIAS)),
        lambda: ops.linear(other(x), randn(3, WIDTH)),
        lambda: ops.linear(SparseMatrix.from_dense(x), other(randn(3, WIDTH))),
        lambda: attention.attend(ADJACENCY, other(x), target, source, heads=HEADS),
        lambda: attention.attend(ADJACENCY, x, other(target), source, heads=HEADS),
        lambda: attention.attend(ADJACENCY, x, target, other(source), heads=HEADS),
        lambda: attention.attend(ADJACENCY, x, target, source, other(BIAS), heads=HEADS),
    ]
    if wrong == "device":
        calls.append(lambda: attention.attend(ADJACENCY, *map(other, (x, target, source)), heads=HEADS))
    for call in calls:
        with pytest.raises(UserError, match=r"\.to\(\)|expected a bias"):
            call()


def test_products_without_memory_have_a_shape() -> None:
    assert spmm_of(ADJACENCY.to(device="meta"), randn(NODES, WIDTH).to("meta")).shape == (NODES, WIDTH)
    assert ops.dropout(randn(3, 4).to("meta"), 0.5, training=True).shape == (3, 4)


def spmm_of(matrix: SparseMatrix, x: Tensor) -> Tensor:
    out = ops.spmm(matrix, x)
    assert out.is_meta
    return out


MODELS = [
    partial(GCN, WIDTH, 4, 3),
    partial(GAT, WIDTH, 4, 3, heads=HEADS),
    partial(SGC, WIDTH, 3),
]


@pytest.mark.parametrize("build", MODELS, ids=["gcn", "gat", "sgc"])
@pytest.mark.parametrize("nodes", [0, 1, 2, NODES])
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_graphs_of_any_size(build: Callable[[], nn.Module], nodes: int, edges: bool, sparse: bool) -> None:
    torch.manual_seed(0)
    model = build().double().eval()
    here = graph(nodes) if edges else Graph.from_edges([], [], num_nodes=nodes)
    x = randn(nodes, WIDTH).double()
    x[: nodes // 2] = 0.0  # nodes with features of zero
    out = model(SparseMatrix.from_dense(x) if sparse else x, here)
    out.sum().backward()
    assert out.shape == (nodes, 3)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    alone = here.isolated_nodes()
    if len(alone):
        # A node without edges is its own neighbourhood: the graph of this node alone gives its row.
        single = Graph.from_edges([], [], num_nodes=1)
        for node in alone.tolist():
            torch.testing.assert_close(model(x[node : node + 1], single), out[node : node + 1])


@pytest.mark.parametrize("build", MODELS, ids=["gcn", "gat", "sgc"])
def test_features_that_do_not_fit_are_refused(build: Callable[[], nn.Module]) -> None:
    model, here, x = build(), graph(), randn(NODES, WIDTH)
    for wrong in (x[1:], x[:, 1:], x[0], x[None], x[:, :0], SparseMatrix.from_dense(x[1:])):
        with pytest.raises(UserError):
            model(wrong, here)


@pytest.mark.parametrize("function", [spmm, attend, elu])
def test_forward_mode_derivatives_are_refused_and_not_dropped(function: Function) -> None:
    x = randn(NODES, WIDTH)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        try:
            tangent = forward_ad.unpack_dual(function(dual)).tangent
        except (RuntimeError, NotImplementedError) as error:
            assert "forward" in str(error)
        else:
            assert tangent is not None


@pytest.mark.parametrize("dropped", [0.0, 0.6])
def test_long_indices_give_the_bits_of_short_ones(dropped: float) -> None:
    results = []
    for index in (torch.int32, torch.int64):
        pattern = ADJACENCY.pattern
        matrix = SparseMatrix(
            Pattern(pattern.crow.to(index), pattern.col.to(index), pattern.shape), ADJACENCY.values.clone()
        )
        values, x, target, source, bias = (
            t.clone().requires_grad_() for t in (matrix.values, randn(NODES, WIDTH), *VECTORS, BIAS)
        )
        torch.manual_seed(5)
        hidden = ops.spmm(matrix.with_values(values), ops.dropout(x, dropped, True), bias)
        hidden = ops.activation_dropout(hidden, "relu", dropped, True)
        out = attention.attend(matrix, hidden, target, source, bias, heads=HEADS, p=dropped, training=True)
        out = ops.activation_dropout(out, "elu", dropped, True)
        gradients = torch.autograd.grad(out.square().sum(), (values, x, target, source, bias))
        products = matrix.product(matrix)
        results.append([out.detach(), *gradients, products.values, products.col.long()])
    for short, long in zip(*results, strict=True):
        assert torch.equal(short, long)


def test_a_numpy_array_is_no_tensor() -> None:
    numbers, weight = torch.ones(NODES, WIDTH).numpy(), torch.ones(2, WIDTH)
    labels, edges = torch.zeros(NODES, dtype=torch.int64), torch.ones(ADJACENCY.nnz, 2)
    for call in (
        lambda: ops.spmm(ADJACENCY, numbers),
        lambda: ops.linear(numbers, weight),
        lambda: ops.dropout(numbers, 0.5, True),
        lambda: attention.attend(ADJACENCY, numbers, *VECTORS, heads=HEADS),
        lambda: attention.attend(
            ADJACENCY, torch.ones(NODES, WIDTH), VECTORS[0].numpy(), VECTORS[1], heads=HEADS
        ),
        lambda: convolve(numbers, ADJACENCY, weight),
        lambda: convolve(torch.ones(NODES, WIDTH), ADJACENCY, weight.numpy()),
        lambda: cross_entropy(numbers, labels),
        lambda: scores(torch.ones(NODES, 2), labels.numpy(), labels),
        lambda: SparseMatrix.from_dense(numbers),
        lambda: ops.propagate(ADJACENCY, numbers, steps=0),
        lambda: ops.edge_sum(ADJACENCY, numbers, torch.ones(NODES, WIDTH)),
        lambda: ops.edge_sum(ADJACENCY, torch.ones(NODES, WIDTH), numbers),
        lambda: ops.edge_softmax(ADJACENCY, edges.numpy()),
        lambda: ops.attention_aggregate(ADJACENCY, edges.numpy(), torch.ones(NODES, 2, 3)),
        lambda: ops.attention_aggregate(ADJACENCY, edges, torch.ones(NODES, 2, 3).numpy()),
        lambda: attention.coefficients_of(ADJACENCY, numbers, *VECTORS, heads=HEADS),
    ):
        with pytest.raises(UserError, match="expected a tensor, got ndarray"):
            call()


def test_numbers_of_edges_are_floating_and_of_one_kind() -> None:
    edges, values = torch.ones(ADJACENCY.nnz, 2), torch.ones(NODES, 2, 3)
    for call in (
        lambda: ops.edge_softmax(ADJACENCY, edges.long()),
        lambda: ops.attention_aggregate(ADJACENCY, edges.long(), values),
        lambda: ops.attention_aggregate(ADJACENCY, edges, values.bool()),
        lambda: ops.attention_aggregate(ADJACENCY, edges.double(), values),
        lambda: ops.attention_aggregate(ADJACENCY, edges, values.to("meta")),
    ):
        with pytest.raises(UserError, match=r"expected floating-point numbers|the coefficients are"):
            call()


@pytest.mark.parametrize("make", [GCN, GAT])
def test_meta_tensors_have_shapes(make: type[nn.Module]) -> None:
    model = make(WIDTH, 4, 3).to("meta")
    out = model(torch.empty(NODES, WIDTH, device="meta"), graph())
    assert out.is_meta
    assert out.shape == (NODES, 3)
    x = torch.empty(NODES, WIDTH, device="meta", requires_grad=True)
    model(x, graph()).sum().backward()
    for tensor in (x, *model.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.is_meta
        assert tensor.grad.shape == tensor.shape


def test_values_on_the_meta_device_get_gradients_of_their_shape() -> None:
    adjacency = ADJACENCY.to(device="meta")
    values = adjacency.values.clone().requires_grad_()
    ops.spmm(adjacency.with_values(values), torch.empty(NODES, WIDTH, device="meta")).sum().backward()
    assert values.grad is not None
    assert values.grad.shape == (ADJACENCY.nnz,)


@pytest.mark.parametrize("kind", ["kernels", "plain torch"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"target": (WIDTH,)},
        {"target": (3, WIDTH // HEADS)},
        {"source": (1, WIDTH // HEADS)},
        {"source": (HEADS, 1)},
        {"bias": (1,)},
        {"z": (NODES, WIDTH + 1)},
        {"z": (NODES,)},
        {"target": (3, WIDTH // HEADS), "source": (3, WIDTH // HEADS)},
    ],
)
def test_vectors_of_attention_that_do_not_fit_are_refused(
    wrong: dict[str, tuple[int, ...]], kind: str
) -> None:
    each = WIDTH // HEADS
    shapes = {
        "z": (NODES, WIDTH),
        "target": (HEADS, each),
        "source": (HEADS, each),
        "bias": (WIDTH,),
        **wrong,
    }
    path = nullcontext() if kind == "kernels" else kernels.disabled()
    with path, pytest.raises(UserError, match=r"expected z \(20, 2 \* F\), two vectors \(2 or 1, F\)"):
        attention.attend(ADJACENCY, *(randn(*shape) for shape in shapes.values()), heads=HEADS)


def test_few_laws_of_dropout_are_kept() -> None:
    # A schedule of probabilities must not fill the memory.
    assert keep_law.cache_info().maxsize == 64
