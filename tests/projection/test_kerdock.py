"""Kerdock sets measured pair by pair, and proofs that fail when the lines are others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.projection import memory, packing
from layerlab.projection.bounds import floor
from layerlab.projection.certificate import certify
from layerlab.projection.cosets import alternating_forms, ranks, walsh_functions
from layerlab.projection.kerdock import Kerdock
from layerlab.projection.packing import pack


@pytest.mark.parametrize("dim", [4, 16, 64])
def test_all_lines_meet_at_one_over_the_root_of_the_dimension(dim):
    lines = Kerdock(dim)
    assert lines.count == dim * (dim + 2) // 2
    vectors = lines.vectors().double()
    gram = (vectors @ vectors.T).abs()
    bases = torch.arange(lines.count) // dim
    same = bases[:, None] == bases
    assert torch.equal(gram[same], torch.eye(dim, dtype=torch.float64).repeat(dim // 2 + 1, 1, 1).flatten())
    assert bool((gram[~same] == 1 / math.sqrt(dim)).all())
    assert floor(dim, lines.count).value == pytest.approx(1 / math.sqrt(dim), rel=1e-12)


def test_first_lines_of_1024_dimensions_measured():
    lines = Kerdock(1024)
    found = certify(lines.vectors(3_000))
    assert found.exact
    assert found.coherence == 1 / 32
    assert lines.count == 525_312


def test_all_525_312_lines_of_1024_dimensions_proved():
    lines = Kerdock(1024)
    found = lines.certify(measured=10**5)
    assert (found.coherence, found.error, found.exact) == (1 / 32, 0.0, True)
    assert found.pairs == 525_312 * 525_311 // 2
    assert 10**5 <= found.measured_pairs < 1.02 * 10**5
    assert "130,816 pairs of 512 bases" in found.proved_by
    assert "full rank 10" in found.proved_by
    counts = found.histogram.counts
    assert counts.sum() == found.measured_pairs
    # cosines of -1/32, 0 and 1/32 only
    assert np.flatnonzero(counts).tolist() == [512 - 16, 512, 512 + 16]
    assert found.excess == pytest.approx(1.0)
    last = lines.rows(lines.count - 3, lines.count)
    assert last.sum() == 3
    assert last[:, -3:].tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("count", [2, 64, 65, 100, 2_047, 2_048, 2_049, 2_112])
def test_certificate_of_a_prefix_is_that_of_all_its_pairs(count):
    lines = Kerdock(64)
    found = lines.certify(count)
    measured = certify(lines.vectors(count))
    assert found.coherence == pytest.approx(measured.coherence, abs=1e-15)
    assert found.error == (0.125 if count == 65 and found.coherence == 0 else 0.0)
    for pair in found.nearest:
        x, y = lines.rows(pair.first, pair.first + 1), lines.rows(pair.second, pair.second + 1)
        assert pair.cosine == float((x * y).sum())


def test_sample_of_lines_is_seeded():
    lines = Kerdock(64)
    first, again, other = (lines.certify(measured=5_000, seed=seed) for seed in (1, 1, 2))
    assert first.nearest == again.nearest
    assert first.nearest != other.nearest
    assert 5_000 <= first.measured_pairs < 5_400
    for pair in other.nearest:
        x, y = lines.rows(pair.first, pair.first + 1), lines.rows(pair.second, pair.second + 1)
        assert pair.cosine == float((x * y).sum())


def test_unit_vectors_are_counted_however_little_is_measured():
    # Three lines with signs may be orthogonal, as seven in fifty draws are; unit vectors beside them are not.
    found = [Kerdock(4).certify(measured=1, seed=seed) for seed in range(40)]
    assert {(one.coherence, one.error, one.exact, abs(one.nearest[0].cosine)) for one in found} == {
        (0.5, 0.0, True, 0.5)
    }
    assert {one.nearest[0].second for one in found} > {8}


def test_proof_fails_for_other_forms(monkeypatch):
    lines = Kerdock(64)
    right = lines.representatives(0, 32)
    cubic = pack(((np.arange(64) & 7) == 7)[None])

    def wrong(change):
        spoilt = right.copy()
        spoilt[9] = change
        monkeypatch.setattr(lines, "representatives", lambda first, last: spoilt[first:last])
        return lines

    with pytest.raises(ArithmeticError, match="singular"):
        wrong(right[4]).prove(32)
    with pytest.raises(ArithmeticError, match="not a quadratic form"):
        wrong(right[9] ^ cubic[0]).prove(32)
    with pytest.raises(ArithmeticError, match="singular"):
        # one coefficient of one form
        wrong(right[9] ^ pack(((np.arange(64) & 3) == 3)[None])[0]).prove(32)
    assert wrong(right[9]).prove(32).upper == 0.125
    assert wrong(right[4]).prove(9).upper == 0.125  # not among the first nine


def test_forms_and_ranks_against_elimination():
    generator = np.random.default_rng(0)
    degree, dim = 5, 32
    positions = (np.arange(dim)[:, None] >> np.arange(degree)) & 1
    for _ in range(20):
        upper = np.triu(generator.integers(0, 2, (degree, degree)))
        function = (np.einsum("pi,ij,pj->p", positions, upper, positions) + generator.integers(0, 2)) & 1
        (form,) = alternating_forms(pack(function[None]), dim)
        matrix = (form[:, None] >> np.arange(degree)) & 1
        expected = (upper + upper.T) & 1
        np.fill_diagonal(expected, 0)
        assert (matrix == expected).all()
        # Σ (-1)^(q + <u, ·>) for all u: of size 2^(m - h), or 0, for rank 2h
        signs = 1 - 2 * function
        walsh = np.array([[(-1) ** int(u & p).bit_count() for p in range(dim)] for u in range(dim)])
        largest = np.abs(walsh @ signs).max()
        assert largest == 2 ** (degree - ranks(form[None])[0] // 2)


def test_ranks_of_random_matrices():
    generator = np.random.default_rng(1)
    rows = generator.integers(0, 2**6, (500, 6)) & generator.integers(0, 2**6, (500, 1))
    for matrix, rank in zip(rows, ranks(rows), strict=True):
        span = {0}
        for row in matrix.tolist():
            span |= {row ^ other for other in span}
        assert len(span) == 2**rank


@pytest.mark.parametrize("dim", [2, 4, 32, 64, 128, 256])
def test_walsh_functions(dim):
    bits = np.unpackbits(walsh_functions(dim).view(np.uint8), axis=1, bitorder="little", count=dim)
    expected = np.bitwise_count(np.arange(dim)[:, None] & np.arange(dim)) & 1
    assert (bits == expected).all()


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_written_file_is_what_vectors_are(tmp_path, form, monkeypatch):
    monkeypatch.setattr(packing, "_AT_ONCE", 64 * 100)  # pieces that end inside bases
    lines = Kerdock(64)
    done = []
    lines.write(tmp_path / "lines.npy", 2_100, form=form, progress=lambda *numbers: done.append(numbers))
    read = np.load(tmp_path / "lines.npy")
    assert read.dtype == form
    assert done[-1] == (2_100, 2_100)
    scale = np.where(np.arange(2_100) < 2_048, 8, 1)[:, None] if form == "int8" else 1
    assert (read == lines.vectors(2_100).numpy() * scale).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.npy"]


def test_interrupted_writing_leaves_the_old_file(tmp_path):
    lines = Kerdock(16)
    path = tmp_path / "lines.npy"
    path.write_bytes(b"old")

    def interrupt(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lines.write(path, progress=interrupt)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["lines.npy"]


def test_more_than_memory_holds_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    with pytest.raises(
        UserError, match=r"525,312 vectors of 1,024 dimensions in float32 take 2.15 GB, and 1 GB"
    ):
        Kerdock(1024).vectors()
    assert Kerdock(1024).vectors(1024).shape == (1024, 1024)


def test_memory_is_known_here():
    free = memory.available()
    assert free is not None
    assert 10**6 < free < 10**15


@pytest.mark.parametrize("dim", [0, 1, 2, 8, 512, 1000])
def test_other_dimensions_are_refused(dim):
    with pytest.raises(UserError, match="4, 16, 64, 256, 1024"):
        Kerdock(dim)


@pytest.mark.parametrize("count", [0, -1, 145])
def test_counts_out_of_range(count):
    for call in (Kerdock(16).vectors, Kerdock(16).certify):
        with pytest.raises(UserError, match="1 to 144 lines of a Kerdock set in 16 dimensions"):
            call(count)


def test_certificate_needs_a_pair(tmp_path):
    with pytest.raises(UserError, match="at least 2 lines"):
        Kerdock(16).certify(1)
    with pytest.raises(UserError, match="'float32' or 'int8'"):
        Kerdock(16).write(tmp_path / "x.npy", form="float16")
