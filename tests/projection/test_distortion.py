"""Measured distortions against all differences, in one block and in many, close pairs and duplicates included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist

from layerlab.errors import UserError
from layerlab.projection import distortion
from layerlab.projection.distortion import measure


def points(shift: float = 0.0, count: int = 120, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((count, width)) + shift
    x[5] = x[9]
    x[7] = x[8] + 1e-9 * max(1.0, shift) * generator.standard_normal(width)
    return x, x @ generator.standard_normal((width, 10)) / 10**0.5


@pytest.mark.parametrize("rows", [7, 120, 1024])
@pytest.mark.parametrize("shift", [0.0, 1e4, 1e9])
@pytest.mark.parametrize("stored", ["dense", "sparse"])
def test_all_pairs_are_those_of_all_differences(
    rows: int, shift: float, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distortion, "_ROWS", rows)
    x, z = points(shift)
    before, after = pdist(x, "sqeuclidean"), pdist(z, "sqeuclidean")
    ratio = after[before > 0] / before[before > 0]
    found = measure(sparse.csr_array(x) if stored == "sparse" else x, z, 0.6)
    assert (found.pairs, found.exhaustive, found.duplicates) == (120 * 119 // 2, True, 1)
    assert found.lowest == pytest.approx(ratio.min(), rel=1e-9)
    assert found.highest == pytest.approx(ratio.max(), rel=1e-9)
    assert found.largest == pytest.approx(np.abs(ratio - 1).max(), rel=1e-9)
    assert found.beyond == int((np.abs(ratio - 1) > 0.6).sum()) > 0
    assert found.low == found.share == found.high == found.beyond / found.pairs
    assert not found.within
    i, j = found.pair
    worst = ((z[i] - z[j]) ** 2).sum() / ((x[i] - x[j]) ** 2).sum()
    assert abs(worst - 1) == pytest.approx(found.largest, rel=1e-9)
    assert sum(found.counts) == int(((ratio >= found.edges[0]) & (ratio <= found.edges[-1])).sum())


def test_a_sample_has_the_exact_interval_and_is_seeded() -> None:
    x, z = points()
    share = measure(x, z, 0.6).share
    found = measure(x, z, 0.6, pairs=3_000, seed=1, level=0.9999)
    assert (found.pairs, found.exhaustive) == (3_000, False)
    assert found.low < share < found.high
    assert found == measure(x, z, 0.6, pairs=3_000, seed=1, level=0.9999)
    assert found != measure(x, z, 0.6, pairs=3_000, seed=2, level=0.9999)
    assert "a sample of 3,000 pairs" in str(found)


def test_a_sample_draws_every_pair_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    # Row 3 alone was moved: 4 of the 10 pairs are beyond.
    x = np.eye(5)
    z = x.copy()
    z[3] *= 3
    monkeypatch.setattr(distortion, "MOST_PAIRS", 9)
    monkeypatch.setattr(distortion, "SAMPLE", 9)
    assert not measure(x, z, 0.5).exhaustive
    assert measure(x, z, 0.5, pairs=10).beyond == 4
    hits = sum(measure(x, z, 0.5, pairs=9, seed=seed).beyond for seed in range(400))
    assert abs(hits / 3_600 - 0.4) < 5 * (0.24 / 3_600) ** 0.5


def test_the_ends_of_the_ratios_are_those_of_the_pairs_and_not_1() -> None:
    x = np.eye(4)
    found = measure(x, 2 * x, 0.5)
    assert (found.lowest, found.highest, found.largest, found.beyond) == (4.0, 4.0, 3.0, 6)
    shrunk = measure(x, x / 2, 0.5)
    assert (shrunk.lowest, shrunk.highest, shrunk.largest) == (0.25, 0.25, 0.75)


def test_close_pairs_keep_their_digits_and_eps_itself_is_allowed() -> None:
    generator = np.random.default_rng(3)
    x = generator.standard_normal((40, 20))
    x[1] = x[0] + 1e-7 * generator.standard_normal(20)
    # Points around 0, and points around an origin that only some of them are near.
    for rows in (np.concatenate([x, -x]), np.concatenate([x, x + 1e9])):
        found = measure(rows, 1.1 * rows, 0.3)
        ratios = pdist(1.1 * rows, "sqeuclidean") / pdist(rows, "sqeuclidean")
        assert (found.lowest, found.highest) == pytest.approx((ratios.min(), ratios.max()), rel=1e-9)
    at_eps = measure(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 2.0]]), 0.25)
    assert (at_eps.largest, at_eps.beyond) == (0.25, 0)


def test_only_duplicates_are_kept() -> None:
    found = measure(np.ones((3, 2)), np.ones((3, 1)), 0.1)
    assert (found.duplicates, found.largest, found.within) == (3, 0.0, True)


def test_memory_maps_are_read_in_blocks(tmp_path) -> None:
    x, z = points()
    np.save(tmp_path / "x.npy", x)
    assert measure(np.load(tmp_path / "x.npy", mmap_mode="r"), z, 0.6) == measure(x, z, 0.6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: measure(np.eye(1), np.eye(1), 0.1), "two points at least"),
        (lambda: measure(np.eye(3), np.eye(2), 0.1), "as many before as after"),
        (lambda: measure(np.eye(3), np.eye(3), 1.0), "eps between 0 and 1"),
        (lambda: measure(np.eye(3), np.eye(3), 0.1, pairs=0), "at least one pair"),
        (lambda: measure(np.eye(3), np.eye(3) * np.nan, 0.1), "leave float64"),
    ],
)
def test_refusals(call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_numbers_whose_squares_leave_float64_are_refused(scale: float) -> None:
    # Scaled down, all rows would pass for equal.
    x, z = points()
    with pytest.raises(UserError, match=r"squares float64 holds, got .* scale the data"):
        measure(scale * x, scale * z, 0.6)
    assert measure(1e-100 * x, 1e-100 * z, 0.6).duplicates == 1
