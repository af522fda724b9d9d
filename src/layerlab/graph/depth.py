"""How fast propagation smooths features away: predicted from the spectrum, and measured beside it.

P^K x keeps of every eigenvector of P the share λ^K. So what is left after K layers is known as soon as it is known
where on the spectrum the features lie, and no propagation is needed to say it for any K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerlab.errors import UserError
from layerlab.graph.edges import plural
from layerlab.graph.limit import Limit, squares
from layerlab.graph.matrices import propagation
from layerlab.graph.node_data import BlockFeatures
from layerlab.graph.products import Product
from layerlab.graph.quadrature import measured, quadrature
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

Floats = NDArray[np.float64]

# Above this many numbers the measured decay, too, is taken on the random combinations of columns.
_MEASURED_WHOLE = 30_000_000
_ROWS = 1 << 16
# Lanczos steps: the quadrature is exact for K up to this minus one, and converges fast beyond.
_STEPS = 40
_FARTHEST = 1_000_000


@dataclass(frozen=True, eq=False)
class Decay:
    """What propagation leaves of some features, layer by layer.

    The energy is the Dirichlet energy tr(X_Kᵀ (I − P) X_K) of X_K = P^K X, the distance the Frobenius norm of
    X_K − ΠX, with Π the projection on D^(1/2) 1 of every component, the eigenvectors of eigenvalue 1.

    Attributes:
        depths: (m) int64, 0 … m − 1.
        energy, distance: (m) predicted.
        energy_error, distance_error: (m) standard errors of these over the random combinations; zeros when exact.
        measured_energy, measured_distance: (m) by that many products.
        eigenvalues, weights: where the features lie off the limit: the squared norm of their part at an eigenvalue
            (at a node of the quadrature when ``method`` is not "dense").
        limit_share: share of the features' squared norm that lies on the limit and never decays.
        method: "dense" (all eigenvectors), "columns" (Lanczos from every column) or "probes" (Lanczos from random
            combinations of columns).
        self_loops: whether P has them.
        notes: what a reader should know.
    """

    depths: NDArray[np.int64]
    energy: Floats
    distance: Floats
    energy_error: Floats
    distance_error: Floats
    measured_energy: Floats
    measured_distance: Floats
    eigenvalues: Floats
    weights: Floats
    limit_share: float
    method: Literal["dense", "columns", "probes"]
    self_loops: bool
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Largest magnitude of an eigenvalue off the limit that the features have a part in; 0 without any.

        In the end the distance shrinks by this factor a layer, and the energy by its square.
        """
        seen = np.abs(self.eigenvalues[self._seen])
        return float(seen.max()) if seen.size else 0.0

    @property
    def oscillates(self) -> bool:
        """Whether a part at eigenvalue −1 swings for ever: a bipartite component without self-loops."""
        return bool((self.eigenvalues[self._seen] < -1 + 1e-9).any())

    @property
    def _seen(self) -> NDArray[np.bool_]:
        """The eigenvalues at which the features have more than rounding."""
        return (self.weights > 0) & (self.weights > 1e-12 * self.weights.sum())

    @property
    def difference(self) -> float:
        """Largest relative difference of a predicted from a measured energy.

        Energies below 10⁻¹² of the first are left out: the measured ones are rounding there.
        """
        first = self.measured_energy[0] if self.measured_energy.size else 0.0
        if first <= 0:
            return 0.0
        above = self.measured_energy > 1e-12 * first
        return float(np.abs(self.energy[above] / self.measured_energy[above] - 1).max())

    def energy_share(self, depth: float) -> float:
        """Predicted share of the first energy that is left after ``depth`` layers, of any size."""
        return self._share(1 - self.eigenvalues, depth)

    def distance_share(self, depth: float) -> float:
        """Predicted share of the first distance to the limit that is left after ``depth`` layers."""
        return math.sqrt(self._share(np.ones_like(self.eigenvalues), depth))

    def _share(self, factor: Floats, depth: float) -> float:
        parts = factor * self.weights
        whole = float(parts.sum())
        return float((parts * np.abs(self.eigenvalues) ** (2 * depth)).sum()) / whole if whole > 0 else 0.0

    def layers_until(self, share: float, of: Literal["energy", "distance"] = "energy") -> float:
        """Layers (with a fraction) after which ``share`` of the first energy or distance is left.

        Infinite if it never is (or not within a million layers); 0 if there is nothing from the start.

        Raises:
            UserError: a share outside (0, 1), or another quantity.
        """
        if not 0 < share < 1 or of not in ("energy", "distance"):
            raise UserError(
                f"expected a share of 'energy' or 'distance' above 0 and below 1, got {share} of {of!r}"
            )
        left = self.energy_share if of == "energy" else self.distance_share
        if left(0) == 0:
            return 0.0
        if left(_FARTHEST) > share:
            return math.inf
        low, high = 0.0, 1.0
        while left(high) > share:
            low, high = high, 2 * high
        while high - low > 1e-6 * max(1.0, high):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) > share else (low, middle)
        return high

    @property
    def half_life(self) -> float:
        """Layers in which the energy halves, on average until a hundredth of it is left."""
        return self.layers_until(0.01) / math.log2(100)

    def to_dict(self) -> dict[str, Any]:
        """Curves and summary for JSON; None for infinite."""
        curves = ("depths", "energy", "distance", "energy_error", "distance_error")
        measured = ("measured_energy", "measured_distance")
        quantities: tuple[Literal["energy", "distance"], ...] = ("energy", "distance")
        until = {of: self.layers_until(0.01, of) for of in quantities}
        return {
            **{name: getattr(self, name).tolist() for name in curves + measured},
            "limit_share": self.limit_share,
            "rate": self.rate,
            "hundredth_after": {of: None if math.isinf(layers) else layers for of, layers in until.items()},
            "difference": self.difference,
            "method": self.method,
            "self_loops": self.self_loops,
            "notes": list(self.notes),
        }


def label_signal(labels: ArrayLike) -> Floats:
    """Labels as features: one-hot, centred over the labelled nodes; rows of zeros where the label is -1.

    Args:
        labels: (n,) integers, -1 unknown.

    Returns:
        (n, classes that occur) float64.

    >>> label_signal([0, 1, -1]).tolist()
    [[0.5, -0.5], [-0.5, 0.5], [0.0, 0.0]]
    """
    classes = np.asarray(labels)
    known = classes >= 0
    names, position = np.unique(classes[known], return_inverse=True)
    signal = np.zeros((classes.size, names.size))
    if names.size:
        # In place: of a large graph this is a gigabyte.
        signal[known] = -np.bincount(position) / position.size
        signal[np.flatnonzero(known), position] += 1.0
    return signal


def decay(
    graph: Graph,
    features: SparseMatrix | BlockFeatures | ArrayLike | None = None,
    *,
    depth: int = 32,
    self_loops: bool = True,
    dense_up_to: int = 1500,
    probes: int = 24,
    seed: int = 0,
) -> Decay:
    """Dirichlet energy and distance to the limit after K layers of propagation, predicted and measured.

    With P = sum_i λ_i u_i u_iᵀ and w_i = ‖u_iᵀ X‖² ::

        energy(K) = sum_i (1 − λ_i) λ_i^(2K) w_i,    distance(K)² = sum_{λ_i off the limit} λ_i^(2K) w_i

    Up to ``dense_up_to`` nodes all λ_i, w_i come from a dense eigendecomposition. Above, Lanczos from the columns of
    X (from random ±1 combinations of them when there are more than ``probes``) gives a quadrature of the same sums:
    exact for K < 40 up to the random combinations, whose standard error is told, and convergent beyond.
    The limit is projected out first, so that its weight cannot spoil the small ones.

    References: Oono and Suzuki, Graph neural networks exponentially lose expressive power, ICLR 2020 (the decay);
    Golub and Meurant, Matrices, moments and quadrature, 2010 (Lanczos quadrature); Hutchinson 1989 (±1 probes).

    Args:
        graph: undirected, weights >= 0.
        features: (n, d), dense or sparse, or the blocks of a store, of which (where they are large) random combinations
            are taken; None takes white noise, whose energy lies evenly on the spectrum.
        depth: the largest K of the curves.
        self_loops: whether P has self-loops. Without them an isolated node loses its features in the first layer;
            they are left out from the start.
        dense_up_to: nodes up to which the eigendecomposition is dense.
        probes: random combinations of columns, at least 2.
        seed: of the combinations and the white noise.

    Returns:
        Predicted and measured curves for K = 0 … depth.

    Raises:
        UserError: a directed graph or negative weights (P is not symmetric, or its limit not known), features of
            another number of rows or not finite, or a negative depth.

    >>> path = Graph.from_edges([0, 1], [1, 2])
    >>> d = decay(path, [[1.0], [0.0], [0.0]], depth=3)
    >>> d.energy.round(4).tolist() == d.measured_energy.round(4).tolist(), round(d.rate, 3)
    (True, 0.5)
    """
    notes: tuple[str, ...] = ()
    generator = np.random.default_rng(seed)
    sketched = False
    if isinstance(features, BlockFeatures) and not isinstance(features, SparseMatrix):
        if math.prod(features.shape) <= _MEASURED_WHOLE:
            features = features.to_sparse()
        else:
            if sketched := features.shape[1] > probes:
                notes = (f"measured on {probes} random combinations of the columns",)
            features = _sketch(features, generator, probes)
    x = _checked(graph, features, depth, probes, seed)
    operator = propagation(graph, self_loops)
    product, limit = Product(operator), Limit(graph, self_loops)
    if not self_loops and (alone := np.flatnonzero(np.diff(operator.indptr) == 0)).size:
        x = x * (np.diff(operator.indptr) > 0)[:, None]
        notes += (
            f"{plural(alone.size, 'node')} without a neighbour: without self-loops the features are lost there in the "
            "first layer; left out",
        )
    weights_of: Floats
    sketch = x if x.shape[1] <= probes else x @ _signs(generator, x.shape[1], probes)
    if graph.num_nodes <= dense_up_to:
        method: Literal["dense", "columns", "probes"] = "dense"
        values, vectors = np.linalg.eigh(operator.toarray())
        nodes, weights_of = values[:, None], ((vectors.T @ limit.off(x)) ** 2).sum(axis=1)[:, None]
    else:
        method = "probes" if sketched or sketch is not x else "columns"
        nodes, weights_of = quadrature(product, limit, limit.off(sketch), _STEPS)
    if x.size > _MEASURED_WHOLE and sketch is not x:
        x = sketch
        notes += (f"measured on {probes} random combinations of the columns",)
    measured_energy, measured_distance = measured(product, limit, x, depth)
    ks = np.arange(depth + 1)
    curves = []
    for factor, first in ((1 - nodes, measured_energy[0]), (np.ones_like(nodes), measured_distance[0] ** 2)):
        each = np.stack([(factor * nodes ** (2 * int(k)) * weights_of).sum(axis=0) for k in ks])
        curves.append(_scaled(each, first, random=method == "probes"))
    (energy, energy_error), (square, square_error) = curves
    distance = np.sqrt(square)
    whole = float(squares(x).sum())
    return Decay(
        ks,
        energy,
        distance,
        energy_error,
        np.divide(square_error, 2 * distance, out=np.zeros_like(distance), where=distance > 0),
        measured_energy,
        measured_distance,
        nodes.T.ravel(),
        weights_of.T.ravel(),
        1 - float(measured_distance[0] ** 2) / whole if whole > 0 else 0.0,
        method,
        self_loops,
        notes,
    )


def _sketch(features: BlockFeatures, generator: np.random.Generator, probes: int) -> Floats:
    """Random ±1 combinations of features that stay in their files, a block at a time; few columns as they are."""
    rows, columns = features.shape
    signs = np.eye(columns) if columns <= probes else _signs(generator, columns, probes)
    found = np.zeros((rows, signs.shape[1]))
    first = 0
    for index in range(features.blocks):
        block = features.block(index)
        chosen = signs[first : first + block.shape[1]]
        for begin in range(0, rows, _ROWS):
            found[begin : begin + _ROWS] += block[begin : begin + _ROWS] @ chosen
        first += block.shape[1]
    return found


def _checked(
    graph: Graph, features: SparseMatrix | ArrayLike | None, depth: int, probes: int, seed: int
) -> Floats:
    if graph.directed:
        raise UserError(
            "the decay is predicted for undirected graphs only: P of a directed one is not symmetric"
        )
    if graph.weights is not None and graph.weights.size and graph.weights.min() < 0:
        raise UserError(
            f"the decay needs weights >= 0, got {graph.weights.min():g}: with negative ones the limit is not known"
        )
    if depth < 0 or probes < 2:
        raise UserError(f"expected a depth >= 0 and at least 2 probes, got depth {depth}, probes {probes}")
    if features is None:
        return np.random.default_rng(seed).standard_normal((graph.num_nodes, probes))
    if isinstance(features, SparseMatrix):
        rows, columns = features.shape
        try:
            features = features.to_scipy().toarray()
        except MemoryError as error:
            raise UserError(
                f"the decay is measured on dense features, and {rows:,} x {columns:,} numbers do not fit into memory; "
                "give fewer columns"
            ) from error
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] != graph.num_nodes:
        raise UserError(
            f"expected features of {graph.num_nodes} rows and two dimensions, got shape {x.shape}"
        )
    if not np.isfinite(x).all():
        raise UserError("expected finite features; there is a NaN or an infinity")
    return x


def _signs(generator: np.random.Generator, rows: int, columns: int) -> Floats:
    return generator.choice([-1.0, 1.0], size=(rows, columns)) / math.sqrt(columns)


def _scaled(each: Floats, first: float, *, random: bool) -> tuple[Floats, Floats]:
    """Sums over the columns, and for random columns scaled to the known first value, with standard errors."""
    total = each.sum(axis=1)
    if not random or total[0] <= 0:
        return total, np.zeros_like(total)
    ratio, count = total / total[0], each.shape[1]
    spread = (each - ratio[:, None] * each[0]).std(axis=1, ddof=1)
    return first * ratio, first * spread / (each[0].mean() * math.sqrt(count))
