"""Measured coherence against slow references, on each of the ways, and what a certificate says of its error."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.projection import certificate, memory, pairs
from layerlab.projection.certificate import certify, rounding
from layerlab.projection.pairs import Pair, blocks, triangle


def random(count, dim, dtype=torch.float64, seed=0):
    return torch.randn(count, dim, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def signs(count, dim, seed=0):
    return torch.randint(0, 2, (count, dim), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reference(vectors):
    """All cosines by numpy in long double, and the pairs in the order of a certificate."""
    x = np.asarray(vectors).astype(np.clongdouble if np.iscomplexobj(vectors) else np.longdouble)
    x = x / np.sqrt((np.abs(x) ** 2).sum(axis=1, keepdims=True))
    upper = np.triu_indices(len(x), 1)
    gram = x @ x.conj().T
    cosines = (np.abs(gram) if np.iscomplexobj(x) else gram)[upper]
    order = np.lexsort((upper[1], upper[0], -np.abs(cosines)))
    return cosines, [(int(upper[0][k]), int(upper[1][k])) for k in order], np.abs(cosines)[order]


def agrees(found, vectors, *, rel=1e-13, ties=False):
    cosines, places, sizes = reference(vectors)
    assert found.coherence == pytest.approx(float(sizes[0]), abs=rel)
    if not ties:
        assert [(pair.first, pair.second) for pair in found.nearest] == places[: len(found.nearest)]
    assert [abs(pair.cosine) for pair in found.nearest] == pytest.approx(
        sizes[: len(found.nearest)].astype(float).tolist(), abs=rel
    )
    assert found.pairs == found.measured_pairs == len(cosines)
    if not ties:
        counts, _ = np.histogram(cosines.astype(float), found.histogram.edges)
        # Numbers beside an edge may fall on either side of it.
        assert np.abs(counts - found.histogram.counts).sum() <= max(4, len(cosines) // 20_000)
        assert found.histogram.counts.sum() == found.pairs


@pytest.fixture
def forced(monkeypatch):
    """The way of large inputs for small ones."""

    def force(*, double=False, kept=certificate._KEPT):
        monkeypatch.setattr(certificate, "_SMALL", 0)
        monkeypatch.setattr(certificate, "_DOUBLE", 1 << 60 if double else 0)
        monkeypatch.setattr(certificate, "_KEPT", kept)
        monkeypatch.setattr(pairs, "LEAST", 48)
        monkeypatch.setattr(pairs, "LARGEST", 100)

    return force


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("count", "dim"), [(2, 1), (2, 7), (60, 5), (333, 17)])
def test_few_vectors(count, dim, dtype):
    vectors = random(count, dim, dtype)
    found = certify(vectors)
    if dim > 1:
        agrees(found, vectors)
    else:
        assert found.coherence == 1.0
    assert not found.exact or dim == 1


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks(forced, double, dtype, threads):
    forced(double=double)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        vectors = random(431, 24, dtype, seed=1)
        found = certify(vectors, nearest=7)
    finally:
        torch.set_num_threads(before)
    agrees(found, vectors)
    assert 0 < found.error < 1e-12
    assert ("float32" in found.arithmetic) is not double


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("count", "dim"), [(430, 63), (257, 64), (259, 130), (600, 1)])
def test_signs_on_packed_bits(forced, threads, count, dim):
    forced()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        vectors = signs(count, dim)
        found = certify(vectors)
    finally:
        torch.set_num_threads(before)
    gram = (vectors @ vectors.T).numpy()[np.triu_indices(count, 1)]
    assert found.exact
    assert found.error == 0
    assert found.coherence == np.abs(gram).max() / dim
    values, counts = np.unique(gram, return_counts=True)
    centres = (found.histogram.edges[1:] + found.histogram.edges[:-1]) / 2
    seen = found.histogram.counts > 0
    assert np.rint(centres[seen] * dim).astype(int).tolist() == values.tolist()
    assert found.histogram.counts[seen].tolist() == counts.tolist()
    rows, columns = np.triu_indices(count, 1)
    order = np.lexsort((columns, rows, -np.abs(gram)))[:10]
    expected = [Pair(int(rows[k]), int(columns[k]), int(gram[k]) / dim) for k in order]
    assert list(found.nearest) == expected


@pytest.mark.parametrize("make", [lambda x: x.to(torch.int8), lambda x: x.numpy() * 0.3, lambda x: x.half()])
def test_signs_of_any_type_and_scale_give_the_same(forced, make):
    vectors = signs(300, 40)
    expected = certify(vectors)
    scaled = make(vectors)
    small = certify(scaled)
    forced()
    large = certify(scaled)
    for found in (small, large):
        assert found.exact
        assert found.nearest == expected.nearest
        assert found.histogram.counts.tolist() == expected.histogram.counts.tolist()


def test_rows_of_signs_may_have_scales_of_their_own(forced):
    vectors = signs(300, 40).double()
    expected = certify(vectors).nearest
    forced()
    assert certify(vectors * random(300, 1).exp()).nearest == expected


@pytest.mark.parametrize("spoil", [0.0, 2.0, -1.0000001])
def test_one_other_entry_makes_them_no_signs(forced, spoil):
    vectors = signs(300, 70).double()
    vectors[211, 69] = spoil
    assert not certify(vectors).exact
    forced()
    found = certify(vectors)
    assert not found.exact
    agrees(found, vectors, ties=True)


def test_pair_that_only_double_precision_tells_apart(forced):
    # Two pairs whose cosines differ by 1e-10: float32 cannot order them.
    forced()
    vectors = torch.eye(400, dtype=torch.float64)
    for first, second, cosine in ((10, 20, 0.5), (300, 390, 0.5 + 1e-10)):
        vectors[second] = 0
        vectors[second, first] = cosine
        vectors[second, second] = math.sqrt(1 - cosine**2)
    found = certify(vectors)
    assert found.pair == (300, 390)
    assert found.coherence == pytest.approx(0.5 + 1e-10, abs=1e-15)
    assert found.error < 1e-12


def test_many_pairs_as_near_as_the_nearest_leave_the_bound_of_single_precision(forced):
    # A simplex: all 79,800 pairs have the same cosine, and only 12 are worked out again.
    forced(kept=2)
    vectors = torch.eye(400, dtype=torch.float64) - 1 / 400
    found = certify(vectors)
    single = rounding(400, torch.float32)
    assert found.coherence == pytest.approx(1 / 399, abs=1e-15)
    assert 0.5 * single < found.error < 2 * single
    assert found.coherence <= 1 / 399 + 1e-15 <= found.upper


def test_rounding_bound_holds_and_is_not_empty():
    vectors = random(200, 500)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    exact = unit @ unit.T
    for dtype in (torch.float32, torch.bfloat16):
        low = unit.to(dtype).double()
        worst = float((low @ low.T - exact).abs().max())
        assert worst < 2 * torch.finfo(dtype).eps
    single = unit.float()
    assert float(((single @ single.T).double() - exact).abs().max()) < rounding(500, torch.float32) < 3.1e-5
    assert rounding(500, torch.complex64) > 2 * rounding(500, torch.float32)
    assert rounding(2**25, torch.float32) == math.inf


def test_reduced_precision_of_products_is_set_aside(forced, monkeypatch):
    forced()
    # Not every processor would take up the permission: look at what it is during a product.
    seen, product = set(), torch.mm

    def watched(*arguments, **options):
        seen.add(torch.get_float32_matmul_precision())
        return product(*arguments, **options)

    monkeypatch.setattr(torch, "mm", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        certify(random(300, 64))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == {"highest"}


@pytest.mark.parametrize("kind", ["few", "signs", "blocks"])
def test_duplicates_and_opposites(forced, kind):
    if kind != "few":
        forced()
    vectors = signs(300, 50).double() if kind == "signs" else random(300, 50)
    vectors[250] = -3 * vectors[17]
    vectors[299] = vectors[250]
    found = certify(vectors, nearest=4)
    assert [(pair.first, pair.second) for pair in found.nearest[:3]] == [(17, 250), (17, 299), (250, 299)]
    assert [pair.cosine for pair in found.nearest[:3]] == pytest.approx([-1, -1, 1], abs=1e-15)
    assert found.coherence == pytest.approx(1.0, abs=1e-15)
    assert found.coherence <= found.upper <= 1.0


@pytest.mark.parametrize("kind", ["signs", "blocks"])
@pytest.mark.parametrize("nearest", [3, 200])
def test_ties_are_listed_in_the_order_of_rows(forced, monkeypatch, kind, nearest):
    forced(kept=0)
    # Pieces so small that a later one has earlier rows.
    for name in ("_SIGN_ROWS", "_SIGN_WORDS", "LEAST", "LARGEST"):
        monkeypatch.setattr(pairs, name, 16)
    vectors = torch.eye(128)
    if kind == "signs":
        vectors = torch.tensor([[1.0]])
        for _ in range(7):
            vectors = torch.cat([torch.cat([vectors, vectors], 1), torch.cat([vectors, -vectors], 1)])
    found = certify(vectors, nearest=nearest)
    expected = list(itertools.islice(itertools.combinations(range(128), 2), nearest))
    assert [(pair.first, pair.second) for pair in found.nearest] == expected
    assert found.exact is (kind == "signs")
    assert found.coherence == 0.0
    assert found.floors[0].value == 0.0
    assert found.excess == 1.0


def test_lengths_do_not_matter_even_where_squares_leave_the_range():
    vectors = random(20, 6)
    expected = certify(vectors)
    scales = 10.0 ** torch.linspace(-300, 300, 20, dtype=torch.float64)
    found = certify(vectors * scales[:, None])
    assert found.coherence == pytest.approx(expected.coherence, abs=1e-14)
    assert found.pair == expected.pair


def test_array_mapped_from_a_file(tmp_path, forced):
    vectors = random(300, 20, torch.float32)
    np.save(tmp_path / "vectors.npy", vectors.numpy())
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    forced()
    assert certify(mapped).nearest == certify(vectors).nearest


def test_progress_ends_at_all_pairs(forced):
    forced()
    for vectors in (random(300, 20), signs(300, 20)):
        seen = []
        certify(vectors, progress=lambda done, of, seen=seen: seen.append((done, of)))
        assert seen[-1] == (300 * 299 // 2, 300 * 299 // 2)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_histogram_can_be_left_out_and_counts_can_be_chosen(forced):
    vectors = random(200, 20)
    assert certify(vectors, bins=0).histogram is None
    assert len(certify(vectors, bins=7).histogram.counts) == 7
    assert len(certify(vectors[:3], nearest=100).nearest) == 3
    forced()
    assert certify(vectors, bins=0).histogram is None
    assert len(certify(vectors[:3], nearest=100).nearest) == 3


def test_certificate_knows_the_floors():
    cube = torch.tensor([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    found = certify(cube)
    assert found.coherence == 1 / 3
    assert found.excess == pytest.approx(1.0)
    assert found.floors[0].value == pytest.approx(1 / 3)
    assert found.nearest[0] == Pair(0, 1, 1 / 3)


@pytest.mark.parametrize("count", [2, 47, 100, 1000, 5_001])
def test_blocks_and_tiles_cover_every_pair_once(count, monkeypatch):
    monkeypatch.setattr(pairs, "LEAST", 40)
    monkeypatch.setattr(pairs, "LARGEST", 300)
    for cover in (list(blocks(0, count)), triangle(count, 1_000_000).tolist()):
        seen = np.zeros((count, count), np.int8)
        for row, last_row, column, last_column in cover:
            part = seen[row:last_row, column:last_column]
            part += np.triu(np.ones_like(part), 1) if row == column else 1
        assert (seen == np.triu(np.ones_like(seen), 1)).all()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(1, 3), "at least 2 vectors of at least 1 dimension, got 1 of 3"),
        (torch.ones(0, 3), "got 0 of 3"),
        (torch.ones(3, 0), "got 3 of 0"),
        (torch.ones(3), "got shape (3,)"),
        (torch.ones(2, 3, 4), "got shape (2, 3, 4)"),
        ([[1, 2], [3, 4]], "got list"),
        (np.array([["a", "b"], ["c", "d"]]), "<U1"),
        (torch.tensor([[1.0, 2], [0, 0]]), "zero vector in row 1"),
        (torch.tensor([[1.0, 2], [1, 3], [1, math.nan]]), "got nan in row 2, column 1"),
        (torch.tensor([[1.0, math.inf], [0, 1]]), "got inf in row 0, column 1"),
        (torch.tensor([[1.0, 1.0], [0, 0]]), "zero vector in row 1"),
        (torch.tensor([[1.0, -1.0], [math.inf, math.inf]]), "got inf in row 1, column 0"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_bad_vectors(vectors, message, large, forced):
    if large:
        forced()
    with pytest.raises(UserError, match="expected") as error:
        certify(vectors)
    assert message in str(error.value)
    assert ";" in str(error.value)


def test_more_than_memory_holds_is_refused_with_its_size(monkeypatch, forced):
    forced()
    monkeypatch.setattr(memory, "available", lambda: 90_000)
    with pytest.raises(
        UserError, match=r"300 unit vectors of 64 dimensions take 76.8 KB, and 90 KB of memory"
    ):
        certify(random(300, 64))
    assert certify(signs(300, 64)).exact


@pytest.mark.parametrize("options", [{"nearest": 0}, {"bins": -1}])
def test_bad_options(options):
    with pytest.raises(UserError, match="at least 1 nearest pair and 0 or more bins"):
        certify(random(5, 3), **options)
