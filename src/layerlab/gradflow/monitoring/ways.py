"""The part of autograd's graph that one layer made: what comes through it to its input, and through nothing else.

A hook on the input tensor would see the gradients of all that read it (a residual branch too), and handing the layer
a copy of its input would change the order in which gradients are added. So the nodes between are looked up and asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor
from torch.autograd.graph import get_gradient_edge

_NODES = 2048

Edge: TypeAlias = tuple[Any, int]
"""A node of the graph with the number of one of its outputs or inputs."""


def edge_of(tensor: Tensor) -> Edge:
    """Where the gradient of a tensor goes: a node, and which of its outputs the tensor was."""
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def ways_through(outputs: list[Edge], inputs: list[Edge]) -> list[list[Edge]]:
    """For each input, the nodes of the graph between that hand it a gradient, with the position in what they give.

    Nothing where that part of the graph is too large to go through (a recurrent net unrolled over time).
    """
    wanted = set(inputs)
    given: dict[Edge, list[Edge]] = {}
    ahead = list({edge[0]: None for edge in outputs if edge not in wanted})
    seen = set(ahead)
    while ahead and wanted:
        node = ahead.pop()
        for position, edge in enumerate(node.next_functions):
            if edge in wanted:
                given.setdefault(edge, []).append((node, position))
            elif edge[0] is not None and edge[0] not in seen:
                seen.add(edge[0])
                ahead.append(edge[0])
        if len(seen) > _NODES:
            return []
    return list(given.values())


class Sum:
    """Adds what the nodes of a layer hand to one input, and hands on the sum when the last has come."""

    def __init__(self, ways: int, done: Callable[[Tensor], None]) -> None:
        self._ways, self._waiting, self._done = ways, ways, done
        self._sum: Tensor | None = None

    def hook(self, position: int) -> Callable[[tuple[Tensor | None, ...], Any], None]:
        def called(grads: tuple[Tensor | None, ...], _: Any) -> None:
            grad = grads[position]
            if grad is not None:
                self._sum = grad if self._sum is None else self._sum + grad
            self._waiting -= 1
            if not self._waiting:
                self.finish()

        return called

    def finish(self) -> None:
        """Hands on what has come: a node that no gradient reaches never calls."""
        if self._sum is not None:
            self._done(self._sum)
        self._sum, self._waiting = None, self._ways
