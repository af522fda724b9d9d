"""Receptive fields: the part of a graph that K layers need in order to compute their output at some nodes.

A two-layer model trained on 140 of Cora's nodes (the public split) reads 1,664 of them and passes 4,478 messages in its
first layer and 778 in its second, not 13,264 in each. The rest would be computed and thrown away: leaving it out
changes neither loss nor gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.graph.sparse import Pattern, SparseMatrix, expect_nodes


@dataclass(frozen=True)
class Field:
    """What `receptive_field` returns.

    Args:
        inputs: ``(m,)`` nodes whose features are read.
        operators: one a layer, the first layer's first. Operator l maps the nodes of level l (its columns; level 0
            are ``inputs``) to those of level l + 1 (its rows), which are also the first of its columns.
    """

    inputs: Tensor
    operators: tuple[SparseMatrix, ...]


def receptive_field(operator: SparseMatrix, nodes: Tensor, depth: int) -> Field:
    """The rows and columns of ``operator`` that ``depth`` layers need for their output at ``nodes``.

    Args:
        operator: ``(n, n)``, rows receive.
        nodes: ``(k,)`` integers in 0 ... n - 1, each once, in the order in which the output is wanted.
        depth: number of layers; 0 reads the nodes themselves.

    Raises:
        UserError: the operator is not square, nodes repeat, are out of range or no integers, or the depth is negative.

    >>> path = SparseMatrix.from_dense(torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]))
    >>> field = receptive_field(path, torch.tensor([0]), depth=2)
    >>> field.inputs.tolist(), [tuple(operator.shape) for operator in field.operators]
    ([0, 1, 2], [(2, 3), (1, 2)])
    """
    size = operator.shape[0]
    if operator.shape != (size, size):
        raise UserError(f"expected a square operator, got {operator}")
    expect_nodes(nodes, size)
    names, counts = nodes.unique(return_counts=True)
    if len(names) < len(nodes):
        raise UserError(f"expected every node once, got node {int(names[counts > 1][0])} again")
    if depth < 0:
        raise UserError(f"expected a depth >= 0, got {depth}")
    level, operators = nodes.long(), []
    for _ in range(depth):
        level, block = _one_layer(operator, level)
        operators.append(block)
    return Field(level, tuple(reversed(operators)))


def _one_layer(operator: SparseMatrix, rows: Tensor) -> tuple[Tensor, SparseMatrix]:
    """The operator's given rows, with columns renamed: the rows' own nodes first, then the others, ascending."""
    own = operator.rows(rows)
    reached = own.col.long().unique()
    columns = torch.cat([rows, reached[~torch.isin(reached, rows)]])
    position = torch.empty(operator.shape[1], dtype=torch.int64, device=rows.device)
    position[columns] = torch.arange(len(columns), device=rows.device)
    renamed = position[own.col.long()]
    # The new names are not ascending within a row: sort by row, then by name.
    order = torch.argsort(own.row.long() * max(1, len(columns)) + renamed)
    pattern = Pattern(own.crow, renamed[order].to(own.col.dtype), (len(rows), len(columns)))
    return columns, SparseMatrix(pattern, own.values[order])
