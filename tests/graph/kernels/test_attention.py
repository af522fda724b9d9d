"""Graph attention's kernels beyond small shapes: long columns, early fetches, slabs, biases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerlab.graph import attention
from layerlab.graph.kernels.attention import slabs_of
from layerlab.graph.kernels.heads_cpu import _NEAR
from layerlab.graph.layers import neighbourhoods
from layerlab.graph.structure import Graph
from layerlab.lab import kernels


def hubs(nodes: int) -> Graph:
    """Three nodes that every other one is joined to, and a ring."""
    ring = np.arange(nodes)
    source = np.concatenate([ring, *(np.full(nodes, hub) for hub in range(3))])
    return Graph.from_edges(source, np.concatenate([(ring + 1) % nodes, ring, ring, ring]))


def gradients(inputs: list[Tensor], graph: Graph, heads: int) -> list[Tensor]:
    pattern = neighbourhoods(graph, inputs[0].dtype).pattern
    out = attention.attend(pattern, *inputs, heads=heads)
    weights = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


def randn(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]


@pytest.mark.parametrize(("heads", "width"), [(8, 8), (1, 13)])
def test_long_columns_of_a_matrix_that_no_cache_holds(heads: int, width: int) -> None:
    nodes = _NEAR // (heads * width) + 1
    graph = hubs(nodes)
    inputs = randn((nodes, heads * width), (heads, width), (heads, width), (heads * width,))
    ours = gradients(inputs, graph, heads)
    with kernels.disabled():
        expected = gradients(inputs, graph, heads)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_bias_does_not_drown_the_gradients() -> None:
    # The backward takes the mean of what a row receives from the row's result, less the bias: what the result lost to
    # rounding at the bias's size is lost to the gradients, and no more.
    exact = randn((40, 24), (3, 8), (3, 8), (24,))
    with torch.no_grad():
        exact[3].mul_(30)
    rounding = float(exact[3].detach().abs().max()) * 2.0**-24
    expected = gradients(exact, hubs(40), 3)
    ours = gradients([t.detach().float().requires_grad_() for t in exact], hubs(40), 3)
    for a, b in zip(ours, expected, strict=True):
        assert float((a - b).abs().max()) < 16 * rounding * max(1.0, float(b.abs().max()))


def test_slabs_cover_all_columns_evenly_and_stay_small() -> None:
    rng = np.random.default_rng(0)
    for columns, mean, expected in (
        (5000, 15.0, 7),
        (5000, 2.0, 2),
        (5000, 40.0, 8),
        (1, 1.0, 2),
        (0, 0.0, 2),
    ):
        crow = np.concatenate([[0], np.cumsum(rng.poisson(mean, columns))])
        cuts = slabs_of(crow, columns)
        assert len(cuts) == expected + 1
        assert (cuts[0], cuts[-1]) == (0, columns)
        assert (np.diff(cuts) >= 0).all()
        if columns > 1:
            work = np.diff(crow[cuts] + cuts)
            assert work.max() - work.min() <= 100


def test_vectors_of_a_few_lanes_leave_the_rest_alone() -> None:
    from numba import njit

    from layerlab.lab.kernels.vector import (
        kept_bits,
        load,
        load_first,
        store,
        store_first,
        totals,
        where_bits,
        zeros,
    )

    @njit
    def run(x, words, out):
        zero = zeros(x, 8)
        store_first(out, np.uint64(0), load_first(zero, x, np.uint64(59), np.uint64(5)), np.uint64(6))
        rows = load(zero, x, np.uint64(0)), load(zero, x, np.uint64(8)), load(zero, x, np.uint64(16))
        more = load(zero, x, np.uint64(24)), load(zero, x, np.uint64(32)), load(zero, x, np.uint64(40))
        last = load(zero, x, np.uint64(48)), load(zero, x, np.uint64(56))
        sums = totals(rows[0], rows[1], rows[2], more[0], more[1], more[2], last[0], last[1])
        store(out, np.uint64(8), sums)
        bits = kept_bits(zero, words, np.uint64(0), np.uint32(50))
        store(out, np.uint64(16), where_bits(sums, bits))
        return bits

    words = np.array([50, 0, 60, 3, 2**32 - 1, 49, 51, 1], np.uint32)
    for dtype in (np.float32, np.float64):
        x, out = np.arange(64).astype(dtype), np.full(24, -1, dtype)
        assert run(x, words, out) == 0b01010101
        assert out[:8].tolist() == [59, 60, 61, 62, 63, 0, -1, -1]
        sums = x.reshape(8, 8).sum(1)
        assert out[8:16].tolist() == sums.tolist()
        assert out[16:].tolist() == np.where(words >= 50, sums, 0).tolist()
