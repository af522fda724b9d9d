from __future__ import annotations

import math

import pytest

from layerlab.projection import bounds
from layerlab.projection.building import BUILDERS
from layerlab.projection.choice import (
    LIKELY,
    TITLES,
    kerdock_dim,
    offers,
    offers_at,
    power_of_two,
    quadratic_terms,
)

DIMS = (2, 3, 4, 5, 8, 15, 16, 31, 63, 64, 100, 128, 1000, 1024)


def test_every_construction_has_a_title() -> None:
    assert set(TITLES) == set(BUILDERS)


@pytest.mark.parametrize("dim", DIMS)
def test_no_offer_is_below_the_floor(dim: int) -> None:
    for count in (2, dim, dim + 1, dim + 2, 2 * dim, dim * (dim + 2) // 2, dim**2 + 5, 10**6):
        found = offers(dim, count)
        assert [offer.coherence for offer in found] == sorted(offer.coherence for offer in found)
        for offer in found:
            assert not bounds.floor(dim, count).excludes(offer.coherence), offer


@pytest.mark.parametrize("dim", DIMS)
def test_both_sides_of_an_offer_agree(dim: int) -> None:
    for coherence in (0.03125, 0.0625, 0.1, 0.125, 0.25, 0.3, 0.5, 0.7, 0.9):
        for offer in offers_at(dim, coherence):
            assert offer.count <= bounds.most(dim, coherence)
            back = {o.construction: o.coherence for o in offers(dim, offer.count)}
            assert back[offer.construction] <= coherence * (1 + 1e-9), offer
            if offer.count > 10**12:  # the floating-point sums of the union bound are not that fine
                continue
            more = {o.construction: o.coherence for o in offers(dim, offer.count + 1)}
            assert more.get(offer.construction, 1.0) > coherence, offer


def test_random_signs_are_as_likely_as_said() -> None:
    for dim, count in ((64, 50), (100, 1000), (1000, 5000), (1024, 10**6)):
        (offer,) = (o for o in offers(dim, count) if o.construction == "random-signs")
        assert bounds.rademacher_log_failure(dim, count, offer.coherence, exact=True) <= math.log(LIKELY)
        below = offer.coherence - 1.5 / dim
        assert bounds.rademacher_log_failure(dim, count, below, exact=True) > math.log(LIKELY)


def test_lines_of_the_plane_and_simplices_are_offered_where_they_are() -> None:
    assert [o.construction for o in offers(2, 5)] == ["plane"]
    assert [o.construction for o in offers(2, 5, "complex")] == []
    assert offers(5, 6)[0].construction == "simplex"
    assert offers(5, 5)[0].construction == "orthonormal"
    assert "simplex" not in {o.construction for o in offers(5, 7)}


def test_the_largest_powers_inside() -> None:
    assert [kerdock_dim(dim) for dim in (2, 3, 4, 15, 16, 100, 1023, 4096)] == [1, 1, 4, 4, 16, 64, 256, 4096]
    assert [power_of_two(dim) for dim in (2, 3, 4, 1000, 1024)] == [2, 2, 4, 512, 1024]


def test_padding_is_told() -> None:
    (kerdock,) = (o for o in offers(100, 2000) if o.construction == "kerdock")
    assert kerdock.coherence == 0.125
    assert "64 of the 100 dimensions" in kerdock.how
    (whole,) = (o for o in offers(64, 2000) if o.construction == "kerdock")
    assert "zeros" not in whole.how


def test_terms_of_quadratic_codes() -> None:
    assert quadratic_terms(32, 1056, None) == 1
    assert quadratic_terms(32, 1057, None) == 2
    assert quadratic_terms(32, 1057, 0.25) is None
    assert quadratic_terms(32, None, 0.25) == 1
    assert quadratic_terms(32, None, 0.2) is None
    assert quadratic_terms(4, 5, None) is None
