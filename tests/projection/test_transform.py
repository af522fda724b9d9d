"""The transformer: scikit-learn's conventions, the stated probability, the certificate, drawing again."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import johnson_lindenstrauss_min_dim
from sklearn.utils.estimator_checks import parametrize_with_checks

from layerlab.errors import UserError
from layerlab.projection import tails
from layerlab.projection.maps import apply, draw
from layerlab.projection.transform import JLTransform

ROWS = np.random.default_rng(0).standard_normal((40, 600))
MAPS = [("gaussian", 1 / 3), ("rademacher", 1 / 3), ("sparse", 1 / 3), ("sparse", "li"), ("hadamard", 1 / 3)]


# Data of two columns cannot be projected, so "auto" refuses scikit-learn's; its own maps are checked like this, too.
@parametrize_with_checks([JLTransform(2, kind=kind) for kind in tails.KINDS])
def test_scikit_learns_conventions(estimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize(("kind", "density"), MAPS)
def test_the_dimension_is_never_above_scikit_learns(kind: str, density: float | str) -> None:
    for eps in (0.5, 0.7, 0.9):
        found = JLTransform(eps=eps, kind=kind, density=density, random_state=0).fit(ROWS)
        assert found.n_components_ <= johnson_lindenstrauss_min_dim(40, eps=eps)
        assert found.n_components_ == tails.dimension(40, eps).dim
        assert found.failure_ == 1.0 if density == "li" else found.failure_ <= 0.125
        assert found.proved_ is (kind == "gaussian")


# n fixed in advance; a right program fails one of these eight with a probability of 1e-5 at most. Of Li's map nothing
# is stated.
@pytest.mark.parametrize(("kind", "density"), [case for case in MAPS if case[1] != "li"])
@pytest.mark.parametrize("failure", [None, 0.02])
def test_of_1000_draws_no_more_fail_than_stated(
    kind: str, density: float | str, failure: float | None
) -> None:
    # Orthonormal points, turned, so that no coordinate is special.
    generator = np.random.default_rng(7)
    points = np.linalg.qr(generator.standard_normal((128, 128)))[0][:12]
    jl = JLTransform(eps=0.7, failure=failure, kind=kind, density=density, random_state=3).fit(points)
    random, failures, i, j = np.random.RandomState(5), 0, *np.triu_indices(12, 1)
    differences = points[i] - points[j]
    lengths = (differences**2).sum(1)
    for _ in range(1000):
        jl._draw(random, 128, np.dtype(float))
        ratio = (apply(jl._map, differences) ** 2).sum(1) / lengths
        failures += bool((np.abs(ratio - 1) > 0.7).any())
    assert jl.failure_ <= (0.125 if failure is None else failure)
    assert stats.binomtest(failures, 1000, jl.failure_, alternative="greater").pvalue > 1e-6
    # A tenth of the dimension must show.
    few = 0
    for _ in range(100):
        drawn = draw("gaussian", 128, jl.n_components_ // 10, np.random.default_rng(random.randint(2**31)))
        few += bool((np.abs((apply(drawn, differences) ** 2).sum(1) / lengths - 1) > 0.7).any())
    assert stats.binomtest(few, 100, jl.failure_, alternative="greater").pvalue < 1e-6


@pytest.mark.parametrize(("kind", "density"), MAPS)
def test_dtype_storage_and_pickle_keep_the_map(kind: str, density: float | str) -> None:
    jl = JLTransform(50, kind=kind, density=density, random_state=1).fit(ROWS)
    wide = jl.transform(ROWS)
    assert wide.dtype == np.float64
    assert wide.shape == (40, 50)
    narrow = jl.transform(ROWS.astype(np.float32))
    assert narrow.dtype == np.float32
    assert np.allclose(narrow, wide, atol=1e-4)
    assert np.allclose(jl.transform(sparse.csr_matrix(ROWS)), wide)
    assert np.array_equal(pickle.loads(pickle.dumps(jl)).transform(ROWS), wide)
    single = JLTransform(50, kind=kind, density=density, random_state=1).fit(ROWS.astype(np.float32))
    if kind != "hadamard":
        assert single.components_.dtype == np.float32
    assert jl.get_feature_names_out()[:2].tolist() == ["jltransform0", "jltransform1"]


@pytest.mark.parametrize(("kind", "density"), MAPS)
def test_the_module_is_the_same_map(kind: str, density: float | str) -> None:
    jl = JLTransform(50, kind=kind, density=density, random_state=1).fit(ROWS)
    found = jl.module()(torch.from_numpy(ROWS))
    assert np.allclose(found.numpy(), jl.transform(ROWS), atol=1e-12)


def test_random_state_decides_and_is_left_alone() -> None:
    one, same, other = (JLTransform(9, random_state=seed).fit(ROWS).components_ for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    np.random.seed(0)  # noqa: NPY002 (the global state is what is looked at)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    JLTransform(9, random_state=0).fit(ROWS)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_it_works_in_a_pipeline() -> None:
    labels = np.arange(40) % 2
    rows = ROWS + 3 * labels[:, None]
    pipeline = make_pipeline(JLTransform(eps=0.6, kind="hadamard", random_state=0), KNeighborsClassifier(3))
    assert pipeline.fit(rows, labels).score(rows, labels) == 1.0
    assert clone(pipeline).get_params()["jltransform__eps"] == 0.6


def test_certify_tells_good_from_bad() -> None:
    jl = JLTransform(eps=0.5, random_state=0).fit(ROWS)
    found = jl.certify(ROWS)
    assert found.exhaustive
    assert found.within
    assert found.largest < 0.5
    assert found.pairs == 40 * 39 // 2
    assert not JLTransform(jl.n_components_ // 10, eps=0.5, random_state=0).fit(ROWS).certify(ROWS).within
    assert not jl.certify(sparse.csc_array(ROWS), pairs=30).exhaustive


def test_draws_again_until_it_holds_and_says_how_often() -> None:
    # So few dimensions that a draw mostly fails.
    options = {"eps": 0.5, "random_state": 0}
    failing = JLTransform(60, **options).fit(ROWS)
    assert not failing.certify(ROWS).within
    assert failing.draws_ == 1
    assert failing.distortion_ is None
    again = JLTransform(60, draws=200, **options).fit(ROWS)
    assert 1 < again.draws_ <= 200
    assert again.distortion_.within
    assert again.certify(ROWS) == again.distortion_
    with pytest.raises(UserError, match="none of 3 maps to 5 dimensions"):
        JLTransform(5, draws=3, **options).fit(ROWS)


def test_a_dimension_that_is_given_has_its_failure_told() -> None:
    jl = JLTransform(200, eps=0.5, random_state=0).fit(ROWS)
    assert jl.failure_ == tails.failure(40, 200, 0.5)
    assert jl.proved_
    fast = JLTransform(200, eps=0.5, kind="hadamard", random_state=0).fit(ROWS)
    assert (fast.failure_, fast.proved_) == (1.0, False)
    with pytest.warns(DataDimensionalityWarning, match="does not pay"):
        JLTransform(601, random_state=0).fit(ROWS)


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({"n_components": 0}, ROWS, "n_components"),
        ({"n_components": 2.5}, ROWS, "n_components"),
        ({"n_components": True}, ROWS, "n_components"),
        ({"kind": "fourier"}, ROWS, "kind"),
        ({"eps": 0.0}, ROWS, "eps"),
        ({"eps": 1.0, "n_components": 3}, ROWS, "eps"),
        ({"failure": 0.0}, ROWS, "failure"),
        ({"density": 2.0}, ROWS, "density"),
        ({"draws": 0}, ROWS, "draws"),
        ({"eps": 0.1}, ROWS, "projecting does not pay"),
        ({}, ROWS[:1], "two rows"),
        ({"kind": "hadamard", "n_components": 2_000}, ROWS, "has 1024 rows"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
def test_refusals(options, given, words: str) -> None:
    with pytest.raises(UserError, match=words):
        JLTransform(**options).fit(given)


def test_what_scikit_learn_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        JLTransform(2).fit(np.array([[np.nan, 1.0], [0.0, 1.0]]))
    with pytest.raises(NotFittedError):
        JLTransform(2).transform(ROWS)
    with pytest.raises(ValueError, match="features"):
        JLTransform(2, random_state=0).fit(ROWS).transform(ROWS[:, :5])
