"""Sign codes of quadratic forms measured pair by pair, and random signs against their union bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.projection import memory
from layerlab.projection.bounds import rademacher_log_failure
from layerlab.projection.certificate import certify
from layerlab.projection.cosets import alternating_forms, ranks
from layerlab.projection.kerdock import Kerdock
from layerlab.projection.packing import pack, unpacked
from layerlab.projection.signs import (
    QuadraticSigns,
    most_terms,
    quadratic_coherence,
    quadratic_count,
    rademacher,
)


@pytest.mark.parametrize(("dim", "terms"), [(8, 1), (16, 1), (32, 1), (64, 1), (32, 2), (128, 1)])
def test_all_pairs_keep_the_bound_and_reach_it(dim, terms):
    lines = QuadraticSigns(dim, terms)
    assert lines.count == quadratic_count(dim, terms) == dim ** (terms + 1) + dim
    count = min(lines.count, 12_000)
    measured = certify(lines.vectors(count), bins=0)
    assert measured.coherence == pytest.approx(quadratic_coherence(dim, terms), abs=1e-7)
    proved = lines.certify(measured=10**6)
    assert proved.coherence == quadratic_coherence(dim, terms)
    assert proved.exact
    assert proved.error == 0


@pytest.mark.parametrize(("dim", "terms"), [(32, 1), (64, 2), (128, 2), (512, 3)])
def test_bound_is_that_of_weil_carlitz_and_uchiyama_or_less(dim, terms):
    largest = 2**terms + 1  # the degree of the polynomial
    weil = (largest - 1) * math.sqrt(dim) / dim
    odd = dim.bit_length() % 2 == 0
    assert quadratic_coherence(dim, terms) == pytest.approx(weil / math.sqrt(2) if odd else weil)


def test_lines_of_512_dimensions_beside_the_floor():
    lines = QuadraticSigns(512, 1)
    found = lines.certify(measured=10**6)
    assert (found.count, found.coherence, found.exact) == (262_656, 0.0625, True)
    assert "all 511 sums have rank 8 or more" in found.proved_by
    assert 1 < found.excess < 1.5


@pytest.mark.parametrize("count", [2, 32, 33, 100, 1_000, 1_024, 1_030])
def test_prefix_is_proved_no_lower_than_measured(count):
    lines = QuadraticSigns(32, 1)
    proved, measured = lines.certify(count), certify(lines.vectors(count))
    assert proved.coherence == pytest.approx(measured.coherence, abs=1e-7)
    assert proved.upper >= measured.coherence - 1e-7
    assert proved.measured_pairs == min(count, 1_024) * (min(count, 1_024) - 1) // 2


def test_proof_finds_a_form_of_lower_rank():
    lines = QuadraticSigns(64, 1)
    assert lines.prove(64).upper == 0.25
    lines._basis[3] = pack(((np.arange(64) & 3) == 3)[None])[0]  # x1 x2: rank 2
    with pytest.raises(ArithmeticError, match="lower rank"):
        lines.prove(64)
    assert lines.prove(8).upper == 0.25
    lines._basis[3] = pack(((np.arange(64) & 7) == 7)[None])[0]
    with pytest.raises(ArithmeticError, match="not a quadratic form"):
        lines.prove(64)


def test_forms_are_numbered_by_the_sums_they_are():
    lines = QuadraticSigns(64, 2)
    some = lines.representatives(1000, 1010)
    single = [int(lines.representatives(1 << bit, (1 << bit) + 1)[0, 0]) for bit in range(12)]
    for number, function in zip(range(1000, 1010), some[:, 0].tolist(), strict=True):
        total = 0
        for bit in range(12):
            total ^= single[bit] * (number >> bit & 1)
        assert total == function
    forms = alternating_forms(lines.representatives(0, 64), 64)
    assert (forms[5] == forms[4] ^ forms[1]).all()


def test_chunks_of_sums_give_the_same_rank(monkeypatch):
    from layerlab.projection import signs

    lines = QuadraticSigns(128, 2)
    whole = lines.prove(128**2)
    monkeypatch.setattr(signs, "_AT_ONCE", 5)
    assert lines.prove(128**2) == whole
    monkeypatch.setattr(signs, "_ALL", 3)
    assert lines.prove(128**2).upper == whole.upper
    assert "kernel" in lines.prove(128**2).text


def test_forms_alone_in_a_chunk_are_not_forgotten(monkeypatch):
    from layerlab.projection import signs

    monkeypatch.setattr(signs, "_AT_ONCE", 1)
    lines = QuadraticSigns(64, 1)
    lines._basis[0] = Kerdock(64).representatives(5, 6)[0]  # rank 6
    lines._basis[1] = pack(((np.arange(64) & 3) == 3)[None])[0]  # rank 2, and 4 or more with the other
    assert ranks(alternating_forms(lines.representatives(1, 4), 64)).tolist() in ([6, 2, 4], [6, 2, 6])
    with pytest.raises(ArithmeticError, match="lower rank"):
        lines.prove(4)


def test_terms():
    assert [most_terms(2**m) for m in range(12)] == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert most_terms(0) == most_terms(12) == most_terms(-4) == 0


@pytest.mark.parametrize(("dim", "terms"), [(4, 1), (64, 3), (64, 0), (100, 1)])
def test_other_sizes_are_refused(dim, terms):
    with pytest.raises(UserError, match="2\\^m of at least 8 and 1 to"):
        QuadraticSigns(dim, terms)


@pytest.mark.parametrize(("dim", "count", "coherence"), [(100, 300, 0.5), (256, 1_000, 0.4), (65, 40, 0.6)])
def test_random_signs_are_certified(dim, count, coherence):
    found = rademacher(dim, count, coherence, seed=3)
    measured = certify(found.vectors())
    assert found.certificate.nearest == measured.nearest
    assert found.certificate.histogram.counts.tolist() == measured.histogram.counts.tolist()
    assert found.certificate.coherence <= coherence
    assert np.abs(found.rows(0, 5, "int8")).tolist() == np.ones((5, dim)).tolist()
    again = rademacher(dim, count, coherence, seed=3)
    assert (again.packed == found.packed).all()
    assert (rademacher(dim, count, coherence, seed=4).packed != found.packed).any()


def test_signs_are_fair_in_every_place():
    found = rademacher(70, 2_000, 0.9)
    means = found.rows(0, 2_000, "int8").mean(axis=0)
    assert np.abs(means).max() < 5 / math.sqrt(2_000)
    assert (means != 0).sum() > 60


def test_draws_fail_as_often_as_expected():
    # At an expected number of failing pairs of e.g. 0.7 (few depend on each other), exp(-0.7) of draws succeed.
    dim, count = 64, 30
    coherence = 26 / 64
    tail = rademacher_log_failure(dim, 2, coherence, exact=True)
    expected = count * (count - 1) / 2 * math.exp(tail)
    assert 0.2 < expected < 1.5
    attempts = [rademacher(dim, count, coherence, seed=seed).attempts for seed in range(300)]
    share = 300 / sum(attempts)
    assert share == pytest.approx(math.exp(-expected), abs=0.08)
    assert max(attempts) > 1


def test_hopeless_requests_are_refused_with_what_could_be_had():
    with pytest.raises(UserError, match="pairs are expected above it; ask for at most") as error:
        rademacher(100, 10_000, 0.2)
    most = int(str(error.value).split("at most ")[1].split(" vectors")[0].replace(",", ""))
    assert rademacher(100, most, 0.2).certificate.coherence <= 0.2
    with pytest.raises(UserError, match="within 1 draws"):
        for seed in range(50):
            rademacher(64, 30, 24 / 64, seed=seed, attempts=1)
    with pytest.raises(UserError, match="at least 2 vectors"):
        rademacher(64, 1, 0.5)


def test_random_signs_beyond_memory_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**6)
    with pytest.raises(UserError, match=r"bits of 10,000 vectors of 1,024 signs take 1.28 MB, and 1 MB"):
        rademacher(1024, 10_000, 0.5)


def test_written_random_signs(tmp_path):
    found = rademacher(65, 50, 0.8)
    found.write(tmp_path / "signs.npy", "int8")
    read = np.load(tmp_path / "signs.npy")
    assert (read == found.rows(0, 50, "int8")).all()
    assert certify(read).nearest == found.certificate.nearest


def test_packing_there_and_back():
    bits = np.random.default_rng(0).integers(0, 2, (7, 130))
    packed = pack(bits)
    assert packed.shape == (7, 3)
    assert (unpacked(packed, 130, "int8") == 1 - 2 * bits).all()
    assert unpacked(packed, 130).dtype == np.float32
    assert np.linalg.norm(unpacked(packed, 130), axis=1) == pytest.approx(np.ones(7), rel=1e-6)
