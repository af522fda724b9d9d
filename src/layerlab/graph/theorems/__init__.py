"""The claims about graphs. Each takes a `Graph`; ``docs/theory/graph.md`` has the proofs."""

from __future__ import annotations

from layerlab.claims import Claim
from layerlab.graph.theorems.attention import GAT_COEFFICIENTS
from layerlab.graph.theorems.bipartite import (
    BIPARTITE_TWO,
    LAMBDA_MAX,
    LEADING_EIGENVECTOR,
    LEADING_EIGENVECTOR_AS_PRINTED,
)
from layerlab.graph.theorems.laplacian import COMPONENTS, LAMBDA_MIN, QUADRATIC_FORM
from layerlab.graph.theorems.propagation import (
    ADJACENCY_INTERVAL,
    OVERSMOOTHING,
    OVERSMOOTHING_WITH_LOOPS,
    POWER,
)

CLAIMS: tuple[Claim, ...] = (
    QUADRATIC_FORM,
    LAMBDA_MIN,
    COMPONENTS,
    LAMBDA_MAX,
    ADJACENCY_INTERVAL,
    BIPARTITE_TWO,
    LEADING_EIGENVECTOR,
    LEADING_EIGENVECTOR_AS_PRINTED,
    POWER,
    OVERSMOOTHING,
    OVERSMOOTHING_WITH_LOOPS,
    GAT_COEFFICIENTS,
)
