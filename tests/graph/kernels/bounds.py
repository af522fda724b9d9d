"""Every kernel over odd shapes, forward and backward; run by test_bounds.py with NUMBA_BOUNDSCHECK=1.

A program of its own: numba reads the switch when it is imported.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from layerlab.graph import attention, loss, ops
from layerlab.graph.kernels import convolution, products_cpu
from layerlab.graph.kernels.operators import ELU, NONE, RELU
from layerlab.graph.models import GAT, GCN
from layerlab.graph.sparse import Pattern, SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.kernels import jit, threads

generator = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator).requires_grad_()


def matrix(rows: int, columns: int, density: float) -> SparseMatrix:
    dense = torch.randn(rows, columns, generator=generator)
    return SparseMatrix.from_dense(dense * (torch.rand(rows, columns, generator=generator) < density))


# One node, no entries, no rows, empty rows, more rows than columns and the reverse.
MATRICES = [matrix(*shape) for shape in ((1, 1, 1.0), (6, 6, 0.0), (0, 3, 1.0), (33, 9, 0.2), (9, 33, 0.2))]


def products() -> None:
    for m, width in itertools.product(MATRICES, range(1, 41)):
        values = m.values.clone().requires_grad_()
        out = ops.spmm(m.with_values(values), randn(m.shape[1], width), randn(width))
        torch.autograd.backward(out, torch.ones_like(out))
        ops.spmm(m, randn(m.shape[1], width)).sum().backward()


def activations() -> None:
    for rows, width, p in itertools.product((0, 1, 7, 65), range(1, 41), (0.0, 0.5)):
        for activation in ("relu", "elu"):
            ops.activation_dropout(randn(rows, width), activation, p, True).sum().backward()
        ops.dropout(randn(rows, width), p, True).sum().backward()
    ops.activation_dropout(randn(3, 1500), "elu", 0.5, True).sum().backward()


def coefficients() -> None:
    for m, heads, width in itertools.product(MATRICES, range(1, 10), (1, 4, 7, 8, 13)):
        if m.shape[0] > m.shape[1]:
            continue
        for vectors, p in ((heads, 0.6), (1, 0.0)):
            z, target, source = randn(m.shape[1], heads * width), randn(vectors, width), randn(vectors, width)
            bias = randn(heads * width) if p else None
            out = attention.attend(m, z, target, source, bias, heads=heads, p=p, training=True)
            out.sum().backward()


def models() -> None:
    for nodes in (1, 2, 40):
        graph = Graph.from_edges(range(nodes - 1), range(1, nodes), num_nodes=nodes)
        features = matrix(nodes, 11, 0.5)
        for x in (features, features.to_dense()):
            for model in (GCN(11, 5, 3), GAT(11, 5, 3, heads=3), GAT(11, 8, 3, heads=8)):
                model(x, graph).sum().backward()


def chunks() -> None:
    """Features that are made and used chunk by chunk, the last one short."""
    convolution._BLOCK, block = 0, convolution._BLOCK
    convolution._CHUNK, chunk = 40, convolution._CHUNK
    for rows, width in itertools.product((1, 3, 20), (1, 7, 8, 11)):
        x, weight = randn(rows, width), randn(16, width).requires_grad_()
        for code in (NONE, RELU, ELU):
            convolution.convolve(
                x, None, weight, None, code, 1, 0.5, lambda *given: given[0]
            ).sum().backward()
    convolution._BLOCK, convolution._CHUNK = block, chunk


def losses() -> None:
    for rows, classes in itertools.product((1, 3, 1030), range(1, 20)):
        logits, labels = randn(rows, classes), torch.randint(classes, (rows,), generator=generator)
        loss.cross_entropy(logits, labels).backward()
        loss.scores(logits, torch.arange(rows).flip(0), labels)


def planted() -> None:
    """What must be caught: a column beyond the last row of x, alone and in another thread."""
    crow, x = np.array([0, 1, 2], np.int32), np.ones((5, 3), np.float32)
    for last in (4, 5):
        arguments = (
            crow,
            np.array([0, last], np.int32),
            np.ones(2, np.float32),
            None,
            x,
            None,
            np.empty((2, 3), np.float32),
        )
        for cuts in ([0, 2], [0, 1, 2]):
            try:
                threads.run(products_cpu.spmm, arguments, cuts)
            except IndexError:
                assert last == 5
            else:
                assert last == 4
    broken = Pattern(torch.tensor([0, 2]), torch.tensor([0, 9]), (1, 5))
    try:
        torch.ops.layerlab.sampled_product(broken.crow, broken.col, torch.ones(1, 9), torch.ones(5, 9))
    except IndexError:
        return
    raise AssertionError("a column out of range was not caught")


if __name__ == "__main__":
    assert jit.CHECKED
    threads.SMALL = 0
    torch.set_num_threads(2)
    planted()
    products()
    activations()
    coefficients()
    models()
    chunks()
    losses()
