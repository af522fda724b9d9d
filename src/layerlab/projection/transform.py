"""Johnson-Lindenstrauss maps as a scikit-learn transformer that states its failure probability and can be certified."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from layerlab.errors import UserError
from layerlab.projection.distortion import Distortion, measure
from layerlab.projection.maps import RandomMap, apply, draw
from layerlab.projection.tails import ACHLIOPTAS, KINDS, Dimension, Kind, dimension, failure

if TYPE_CHECKING:
    from layerlab.projection.layers import JLProjection


class JLTransform(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A random linear map to fewer dimensions that keeps all squared distances within a factor 1 ± eps.

    (1 - ε) norm(x - y)² ≤ norm(A x - A y)² ≤ (1 + ε) norm(x - y)² for all pairs of N points, but for a stated
    probability over the drawing of A. `certify` measures it for the map that was drawn.

    Args:
        n_components: n, or ``"auto"``: the smallest n for the points that `fit` sees, `eps` and `failure`.
        eps: ε in (0, 1).
        failure: the probability of a failure that is allowed, see `layerlab.projection.tails.dimension`. None: 1/8 by
            exact χ² tails, never above scikit-learn's dimension; proved for the Gaussian map only.
        kind: ``"gaussian"``, ``"rademacher"``, ``"sparse"`` or ``"hadamard"`` (fast: d log d a row, no matrix).
        density: of a sparse map, the share of entries other than 0: 1/3 is Achlioptas', ``"li"`` is 1/√d.
        draws: 1: the first map is taken as it comes. More: `fit` measures its points, and draws again while some pair
            is beyond ε, at most so many times in all; then all draws fail with probability failure to that power.
        random_state: an int, a numpy RandomState or None, as everywhere in scikit-learn.

    Attributes:
        n_components_: n.
        n_features_in_: d.
        failure_: the stated probability of one draw, by the number of points that `fit` saw; 1 where nothing is known.
        proved_: whether that is proved for this map.
        density_: of a sparse map.
        components_: ``(n, d)`` matrix, sparse where it pays; there is none for ``"hadamard"``.
        draws_: maps that were drawn.
        distortion_: what was measured of the last of them; None for ``draws=1``.

    Raises:
        UserError: in `fit`: a parameter out of range, n not below d for ``"auto"``, or all draws failed.

    >>> rows = np.random.default_rng(0).standard_normal((40, 1000))
    >>> jl = JLTransform(eps=0.5, random_state=0).fit(rows)
    >>> jl.transform(rows).shape, round(jl.failure_, 3), jl.certify(rows).within
    ((40, 135), 0.119, True)
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        eps: float = 0.1,
        failure: float | None = None,
        kind: Kind = "gaussian",
        density: float | Literal["li"] = ACHLIOPTAS,
        draws: int = 1,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.failure = failure
        self.kind = kind
        self.density = density
        self.draws = draws
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> JLTransform:
        """Draw the map. Only the shape and the dtype of X matter, unless ``draws`` is above 1.

        Args:
            X: ``(N, d)``, an array or a scipy sparse matrix; float32 is kept, everything else becomes float64.
            y: ignored.
        """
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32])
        self._check_parameters()
        count, width = X.shape
        self.density_: float = width**-0.5 if self.density == "li" else float(self.density)
        known = self._dimension(count, width)
        self.n_components_, self.failure_, self.proved_ = known.dim, known.failure, known.proved
        random = check_random_state(self.random_state)
        self.distortion_: Distortion | None = None
        best = np.inf
        for number in range(1, self.draws + 1):
            self.draws_ = number
            self._draw(random, width, X.dtype)
            if self.draws == 1:
                return self
            self.distortion_ = self.certify(X)
            if self.distortion_.within:
                return self
            best = min(best, self.distortion_.largest)
        raise UserError(
            f"none of {self.draws} maps to {self.n_components_} dimensions kept all distances within eps = "
            f"{self.eps:g}, the best is off by {best:.3g}; raise n_components, eps or draws"
        )

    def transform(self, X: Any) -> NDArray[Any]:
        """The images of the rows.

        Args:
            X: ``(N, d)``, an array or a scipy sparse matrix.

        Returns:
            ``(N, n)``, dense; float32 where X is, else float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32], reset=False)
        return apply(self._map.cast(X.dtype), X)

    def certify(self, X: Any, *, pairs: int | None = None, seed: int = 0, level: float = 0.95) -> Distortion:
        """Measure the distortion of squared distances among the rows of X under the map that was drawn.

        Args:
            X: ``(N, d)``, at least two rows.
            pairs: None: all, up to 50 million, else a sample of a million; a number: a sample of so many.
            seed: of the sample.
            level: confidence of the interval of the share beyond ε, for a sample.

        Returns:
            See `layerlab.projection.distortion.Distortion`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        return measure(X, self.transform(X), self.eps, pairs=pairs, seed=seed, level=level)

    def module(self) -> JLProjection:
        """The map as an ``nn.Module`` with the same numbers, for tensors ``(..., d)`` on any device."""
        from layerlab.projection.layers import JLProjection

        check_is_fitted(self)
        return JLProjection.of(self._map)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"expected kind to be one of {', '.join(KINDS)}, got {self.kind!r}")
        whole = isinstance(self.n_components, int | np.integer) and not isinstance(self.n_components, bool)
        if self.n_components != "auto" and not (whole and self.n_components >= 1):
            raise UserError(
                f"expected n_components to be 'auto' or a whole number from 1 on, got {self.n_components!r}"
            )
        if not isinstance(self.draws, int | np.integer) or self.draws < 1:
            raise UserError(f"expected draws to be a whole number from 1 on, got {self.draws!r}")
        if self.density != "li" and not (isinstance(self.density, float | int) and 0 < self.density <= 1):
            raise UserError(f"expected density to be 'li' or a number in (0, 1], got {self.density!r}")
        if not 0 < self.eps < 1:
            raise UserError(f"expected eps between 0 and 1 (both excluded), got {self.eps}; take e.g. 0.1")

    def _dimension(self, count: int, width: int) -> Dimension:
        if self.n_components == "auto":
            if count < 2:
                raise UserError(
                    "one row, 1 sample, has no distance to keep: n_components='auto' needs two rows"
                )
            known = dimension(count, self.eps, self.failure, self.kind, self.density_)
            if known.dim >= width:
                raise UserError(
                    f"{count:,} points with eps = {self.eps:g} need {known.dim:,} dimensions, and the data has "
                    f"{width:,}: projecting does not pay; keep the data, raise eps or give n_components"
                )
            return known
        dim = int(self.n_components)
        if dim > width:
            warnings.warn(
                f"n_components = {dim} is more than the data's {width} features: projecting does not pay",
                DataDimensionalityWarning,
                stacklevel=3,
            )
        if count < 2:
            return Dimension(dim, 0.0, True, 0.0, "there is no pair")
        left = failure(count, dim, self.eps, self.kind, self.density_)
        return Dimension(dim, left, left < 1, left, "the given dimension")

    def _draw(self, random: Any, width: int, dtype: Any) -> None:
        # A generator of numpy's newer kind is several times faster, and can draw float32.
        generator = np.random.default_rng(random.randint(0, 2**32, 4, dtype=np.uint32))
        self._map: RandomMap = draw(
            self.kind, width, self.n_components_, generator, density=self.density_, dtype=dtype.type
        )
        if self._map.matrix is not None:
            self.components_ = self._map.matrix
