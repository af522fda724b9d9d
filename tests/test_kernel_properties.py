"""Kernels against what they are defined to be, over drawn shapes: empty rows, one node, no entries, dropout.

The twins are dense, in float64, and share no code with the operators; what is dropped they take from the formula of the
generator.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from layerlab.attention.linear import linear_attention
from layerlab.graph import attention, ops
from layerlab.graph.convolution import convolve
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab.random import GROUP, draw, drop_threshold, philox, words

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
DTYPES = st.sampled_from([torch.float64, torch.float32])
DROPPED = st.sampled_from([0.0, 0.3, 0.6, 0.9])


@st.composite
def matrices(drawn: st.DrawFn, square: bool = False) -> Tensor:
    """Dense, with rows and columns without entries more often than chance would have them."""
    rows = drawn(st.integers(1, 24))
    columns = rows if square else drawn(st.integers(rows, 30))
    draws = np.random.default_rng(drawn(st.integers(0, 2**32 - 1)))
    dense = draws.normal(size=(rows, columns)) * (
        draws.random((rows, columns)) < draws.choice([0, 0.1, 0.5, 1])
    )
    dense[draws.random(rows) < 0.2] = 0.0
    dense[:, draws.random(columns) < 0.2] = 0.0
    return torch.from_numpy(dense)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([seed, len(shape), *shape]).normal(size=shape))


def kept(seed: int, shape: tuple[int, ...], p: float) -> Tensor:
    """1 / (1 - p) where an element stays, 0 where it is dropped; `seed` is that of torch's generator."""
    if p == 0.0:
        return torch.ones(shape, dtype=torch.float64)
    torch.manual_seed(seed)
    key = int(torch.randint(2**63 - 1, (1,)))
    elements = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return torch.from_numpy(words(key, 0, elements) >= drop_threshold(p)).double() / (1 - p)


def with_gradients(function: Any, inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [each.to(dtype).requires_grad_() for each in inputs]
    out = function(*leaves)
    weights = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out).to(dtype)
    found = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
    return [out.detach().double(), *(each.double() for each in found)]


def close(ours: list[Tensor], twins: list[Tensor], dtype: torch.dtype) -> None:
    size = max([1.0, *(float(twin.abs().max()) for twin in twins if twin.numel())])
    for one, twin in zip(ours, twins, strict=True):
        assert one.shape == twin.shape
        if twin.numel():
            assert float((one - twin).abs().max()) <= (1e-12 if dtype is torch.float64 else 2e-5) * size


@EXACT
@given(matrices(), st.integers(0, 40), st.booleans(), DTYPES, st.integers(0, 99))
def test_a_sparse_product_is_the_dense_one(
    dense: Tensor, width: int, biased: bool, dtype: torch.dtype, seed: int
) -> None:
    m = SparseMatrix.from_dense(dense.to(dtype))
    rows, columns = torch.nonzero(dense, as_tuple=True)
    inputs = [dense[rows, columns], normal(seed, dense.shape[1], width), normal(seed, width)]

    def ours(values: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        return ops.spmm(m.with_values(values), x, bias if biased else None)

    def twin(values: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        full = torch.zeros(dense.shape, dtype=torch.float64).index_put((rows, columns), values)
        return full @ x + bias if biased else full @ x

    close(with_gradients(ours, inputs, dtype), with_gradients(twin, inputs, torch.float64), dtype)


@EXACT
@given(matrices(), st.integers(1, 9), st.integers(1, 17), DROPPED, DTYPES, st.integers(0, 99))
def test_attention_is_a_masked_softmax(
    dense: Tensor, heads: int, width: int, p: float, dtype: torch.dtype, seed: int
) -> None:
    edges = dense != 0
    rows, columns = dense.shape
    inputs = [
        normal(seed, columns, heads * width),
        normal(seed, heads, width),
        normal(seed + 1, heads, width),
    ]
    inputs.append(normal(seed, heads * width))
    pattern = SparseMatrix.from_dense(edges.to(dtype)).pattern
    factor = torch.zeros(rows, columns, heads, dtype=torch.float64)
    factor[edges] = kept(seed, (int(edges.sum()), heads), p)

    def ours(z: Tensor, target: Tensor, source: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return attention.attend(pattern, z, target, source, bias, heads=heads, p=p, training=True)

    def twin(z: Tensor, target: Tensor, source: Tensor, bias: Tensor) -> Tensor:
        values = z.view(columns, heads, width)
        scores = (values[:rows] * target).sum(-1)[:, None] + (values * source).sum(-1)[None]
        scores = torch.nn.functional.leaky_relu(scores, 0.2).masked_fill(~edges[:, :, None], -torch.inf)
        alone = ~edges.any(1)
        weights = scores.masked_fill(alone[:, None, None], 0.0).softmax(1)
        weights = weights.masked_fill(alone[:, None, None], 0.0) * factor
        return torch.einsum("ijh,jhf->ihf", weights, values).flatten(1) + bias

    close(with_gradients(ours, inputs, dtype), with_gradients(twin, inputs, torch.float64), dtype)


@EXACT
@given(
    matrices(square=True),
    st.integers(1, 20),
    st.integers(1, 80),
    st.sampled_from([None, "relu", "elu"]),
    DROPPED,
    DTYPES,
    st.integers(0, 99),
)
def test_a_layers_step_is_activation_dropout_weights_and_propagation(
    dense: Tensor, inner: int, width: int, activation: Any, p: float, dtype: torch.dtype, seed: int
) -> None:
    operator = SparseMatrix.from_dense(dense.to(dtype)) if seed % 3 else None
    inputs = [normal(seed, len(dense), inner), normal(seed, width, inner), normal(seed, width)]
    factor = kept(seed, (len(dense), inner), p)

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return convolve(x, operator, weight, bias, activation=activation, p=p, training=True)

    def twin(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        active = {None: lambda t: t, "relu": torch.relu, "elu": torch.nn.functional.elu}[activation](
            x
        ) * factor
        return (active @ weight.T if operator is None else dense @ (active @ weight.T)) + bias

    close(with_gradients(ours, inputs, dtype), with_gradients(twin, inputs, torch.float64), dtype)


@EXACT
@given(matrices(), st.integers(1, 140), DROPPED, DTYPES, st.integers(0, 99))
def test_a_step_on_sparse_features_drops_stored_values(
    dense: Tensor, width: int, p: float, dtype: torch.dtype, seed: int
) -> None:
    # From 64 columns on, with more than half of the values dropped, a kernel that leaves zeros out.
    x = SparseMatrix.from_dense(dense.to(dtype))
    inputs = [normal(seed, width, dense.shape[1]), normal(seed, width)]
    dropped = dense.clone()
    dropped[dense != 0] *= kept(seed, (x.nnz,), p)

    def ours(weight: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return convolve(x, None, weight, bias, p=p, training=True)

    twins = with_gradients(lambda weight, bias: dropped @ weight.T + bias, inputs, torch.float64)
    close(with_gradients(ours, inputs, dtype), twins, dtype)


@EXACT
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from(["elu", "relu"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_linear_attention_is_a_quotient_of_sums(
    groups: tuple[int, int, int],
    lengths: tuple[int, int],
    sizes: tuple[int, int],
    name: str,
    causal: bool,
    masked: bool,
    seed: int,
) -> None:
    batch, kv_heads, group = groups
    n, m = lengths[0], lengths[0] if causal else lengths[1]
    d, e = sizes
    inputs = [
        normal(seed, batch, kv_heads * group, n, d),
        normal(seed + 1, batch, kv_heads, m, d),
        normal(seed + 2, batch, kv_heads, m, e),
    ]
    mask = normal(seed + 3, batch, 1, 1, m) > 0 if masked else None
    seen = torch.ones(n, m, dtype=torch.bool).tril() if causal else torch.ones(n, m, dtype=torch.bool)
    seen = seen & mask if mask is not None else seen

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q, k, v, feature_map=name, causal=causal, mask=mask)

    def twin(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        features = torch.relu if name == "relu" else lambda x: torch.nn.functional.elu(x) + 1
        weights = (features(q) @ features(k).mT).masked_fill(~seen, 0.0)
        total = weights.sum(-1, keepdim=True)
        return torch.where(total > 0, weights, 0.0) @ v / torch.where(total > 0, total, 1.0)

    found = with_gradients(ours, inputs, torch.float64)
    twins = with_gradients(twin, inputs, torch.float64)
    # What cancels in a gradient was as large as the smallest sum of weights makes it.
    for one, other in zip(found, twins, strict=True):
        assert float((one - other).abs().max()) <= 1e-10 * max(
            1.0, *(float(each.abs().max()) for each in twins)
        )


def drawn_by_kernel(seed: int, stream: int, start: int, stop: int) -> np.ndarray[Any, Any]:
    scratch = np.zeros(stop - start + 2 * GROUP, np.uint32)
    shift = draw(scratch, np.uint64(seed), np.uint64(stream), start, stop)
    return scratch[shift : shift + stop - start]


WORD = st.integers(0, 2**64 - 1)
PLACES = st.lists(st.integers(0, 400), min_size=1, max_size=8)


@EXACT
@given(
    WORD, WORD, st.one_of(st.integers(0, 2**20), st.integers(2**34 - 300, 2**34), st.just(2**40 + 17)), PLACES
)
def test_random_words_are_the_same_however_they_are_dealt(
    seed: int, stream: int, first: int, places: list[int]
) -> None:
    cuts = sorted({0, *places})
    parts = [drawn_by_kernel(seed, stream, first + a, first + b) for a, b in pairwise(cuts)]
    whole = words(seed, stream, np.arange(first, first + cuts[-1]))
    np.testing.assert_array_equal(np.concatenate([np.zeros(0, np.uint32), *parts]), whole)


@EXACT
@given(st.integers(0, 2**128 - 1), st.integers(0, 127), WORD)
def test_every_bit_of_a_counter_changes_half_of_the_bits(counter: int, bit: int, key: int) -> None:
    def of(number: int) -> int:
        split = np.array([number >> (32 * word) & 0xFFFFFFFF for word in range(4)], np.uint32)
        out = philox(split, np.array([key & 0xFFFFFFFF, key >> 32], np.uint32))
        return sum(int(word) << (32 * place) for place, word in enumerate(out))

    # A bijection, whose outputs differ in 64 of 128 bits, give or take 5.7: less than one draw in 10^9 is beyond this.
    assert 29 <= (of(counter) ^ of(counter ^ (1 << bit))).bit_count() <= 99


@settings(derandomize=True, deadline=None, max_examples=10)
@given(WORD, WORD)
def test_random_words_are_uniform(seed: int, stream: int) -> None:
    drawn = drawn_by_kernel(seed, stream, 0, 1 << 16)
    assert stats.kstest(drawn / 2**32, "uniform").pvalue > 1e-6
    assert stats.chisquare(np.bincount(drawn & 0xFF, minlength=256)).pvalue > 1e-6
