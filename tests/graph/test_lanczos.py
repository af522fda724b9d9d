"""Lanczos on a subspace whose spectrum does not hold 0."""

from __future__ import annotations

import numpy as np
import pytest

from layerlab.graph.generate import block_model
from layerlab.graph.lanczos import extreme_eigenvalues
from layerlab.graph.matrices import normalized_laplacian


@pytest.mark.parametrize("seed", range(3))
def test_a_known_vector_at_an_end_of_the_spectrum_does_not_come_back(seed: int) -> None:
    # The known vector has eigenvalue 0, all others are far above: what rounding leaves of it is amplified most.
    graph = block_model(600, homophily=0.8, degree=12.0, signal=1.0, seed=0).graph
    matrix = normalized_laplacian(graph)
    root = np.sqrt(graph.degrees())
    known = root / np.linalg.norm(root)
    found = extreme_eigenvalues(
        *(lambda x: matrix @ x, lambda x: x - known * (known @ x), 600, ["lowest", "highest"]),
        tolerance=1e-11,
        max_steps=600,
        generator=np.random.default_rng(seed),
    )
    values = np.linalg.eigvalsh(matrix.toarray())
    assert values[1] > 0.1
    for end, value in (("lowest", values[1]), ("highest", values[-1])):
        assert found[end].value == pytest.approx(value, abs=1e-10)
        assert found[end].residual < 1e-9
