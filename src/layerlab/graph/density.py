"""Where all the eigenvalues of P lie: a histogram, exact for small graphs, estimated for large ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.matrices import propagation
from layerlab.graph.products import Product, by_rows, inner, room
from layerlab.graph.structure import Graph

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Density:
    """The share of eigenvalues of P in each bin.

    Attributes:
        edges: (bins + 1) float64, from −1 to 1. An eigenvalue λ of P is 1 − λ of the Laplacian.
        mass: (bins) float64, at least 0, of sum 1.
        error: (bins) float64, standard error of ``mass`` over the random probes; 0 where exact.
        exact: whether the eigenvalues were computed and counted.
        resolution: width over which an estimated density is blurred, in the middle of the interval; 0 where
            exact.
    """

    edges: NDArray[np.float64]
    mass: NDArray[np.float64]
    error: NDArray[np.float64]
    exact: bool
    resolution: float


def density(
    graph: Graph,
    *,
    self_loops: bool = True,
    bins: int = 101,
    exact_up_to: int = 1500,
    moments: int = 256,
    probes: int = 8,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Density:
    """The spectral density of the propagation matrix P as a histogram over [−1, 1].

    Above ``exact_up_to`` nodes by the kernel polynomial method: the Chebyshev moments μ_k = tr T_k(P) / n,
    estimated as zᵀT_k(P)z / n with random signs z, give the density
    (1 + 2 Σ g_k μ_k cos kθ) / π in θ = arccos λ, integrated over each bin; Jackson's g_k keep it from
    becoming negative and blur it by about π / ``moments``.

    Reference: A. Weiße, G. Wellein, A. Alvermann and H. Fehske, The kernel polynomial method (Rev. Mod. Phys.
    78, 2006), sections II.B to II.D.

    Args:
        graph: undirected, no negative weight, at least one node.
        self_loops: whether P has them added.
        bins: an odd number keeps the eigenvalue 0 off the bins' edges.
        exact_up_to: nodes.
        moments: an even number.
        probes: random vectors, at least 2.
        seed: of the probes.
        progress: called with the fraction done and a few words.

    Raises:
        UserError: another graph, or numbers out of range.

    >>> found = density(Graph.from_edges([0, 1, 2], [1, 2, 0]), self_loops=False, bins=3)
    >>> found.mass.round(3).tolist(), found.exact
    ([0.667, 0.0, 0.333], True)
    """
    if graph.num_nodes == 0 or graph.directed or (graph.weights is not None and (graph.weights < 0).any()):
        raise UserError(
            f"the spectral density needs an undirected graph with nodes and no negative weight, got {graph}"
        )
    if bins < 1 or moments < 2 or moments % 2 or probes < 2:
        raise UserError(
            f"expected bins >= 1, an even number of moments and probes >= 2, got {bins}, {moments}, {probes}"
        )
    edges = np.linspace(-1.0, 1.0, bins + 1)
    matrix = propagation(graph, self_loops)
    if graph.num_nodes <= exact_up_to:
        values = np.clip(np.linalg.eigvalsh(matrix.toarray()), -1.0, 1.0)
        mass = np.histogram(values, edges)[0] / graph.num_nodes
        return Density(edges, mass, np.zeros(bins), True, 0.0)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (graph.num_nodes, probes))
    found = _chebyshev_moments(Product(matrix), signs, moments, progress or (lambda fraction, text: None))
    masses = _masses(found, edges)
    error = masses.std(axis=1, ddof=1) / np.sqrt(probes)
    return Density(edges, masses.mean(axis=1), error, False, float(np.pi / moments))


def _chebyshev_moments(
    product: Product,
    signs: NDArray[np.float64],
    moments: int,
    progress: Callable[[float, str], None],
) -> NDArray[np.float64]:
    """(moments, probes): zᵀT_k(P)z / n, two for each product, as 2 T_j T_k = T_(j+k) + T_(j−k)."""
    rows = signs.shape[0]
    found = np.empty((moments, signs.shape[1]))
    before, now, following = (room(*signs.shape) for _ in range(3))
    before[...] = signs
    product(before, now)
    found[0], found[1] = 1.0, by_rows(rows, lambda at: inner(now[at], before[at])) / rows
    for k in range(1, moments // 2):
        product(now, following)

        def step(
            at: slice, now: Floats = now, before: Floats = before, following: Floats = following
        ) -> Floats:
            """T_(k+1) = 2 P T_k − T_(k−1), and what it and T_k have in common."""
            following[at] *= 2.0
            following[at] -= before[at]
            return np.stack([inner(now[at], now[at]), inner(following[at], now[at])])

        own, next_one = by_rows(rows, step)
        found[2 * k] = 2.0 * own / rows - found[0]
        found[2 * k + 1] = 2.0 * next_one / rows - found[1]
        before, now, following = now, following, before
        progress(2 * k / moments, f"spectral density: moment {2 * k} of {moments}")
    progress(1.0, "spectral density")
    return found


def _masses(found: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(bins, probes): the integral of each probe's density over each bin."""
    k = np.arange(1, found.shape[0])
    angle = np.pi / (found.shape[0] + 1)
    jackson = ((found.shape[0] - k + 1) * np.cos(k * angle) + np.sin(k * angle) / np.tan(angle)) / (
        found.shape[0] + 1
    )
    theta = np.arccos(edges)[:, None]
    integral = (theta + 2.0 * (np.sin(theta * k) / k) @ (jackson[:, None] * found[1:])) / np.pi
    return integral[:-1] - integral[1:]
