from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from layerlab import projection
from layerlab.errors import UserError
from layerlab.projection import bounds, building
from layerlab.projection.codebooks import CONSTRUCTIONS, ImpossibleError, OutOfReachError, codebook


def coherence(vectors: torch.Tensor) -> float:
    x = vectors.to(torch.complex128 if vectors.is_complex() else torch.float64)
    torch.testing.assert_close(
        torch.linalg.vector_norm(x, dim=1), torch.ones(len(x), dtype=torch.float64), atol=1e-6, rtol=0
    )
    return float((x @ x.mH).abs().fill_diagonal_(0.0).max())


@pytest.mark.parametrize(
    ("request_", "construction", "count", "value"),
    [
        ({"dim": 50, "count": 40}, "orthonormal", 40, 0.0),
        ({"dim": 50, "count": 51}, "simplex", 51, 1 / 50),
        ({"dim": 2, "count": 7}, "plane", 7, math.cos(math.pi / 7)),
        ({"dim": 2, "coherence": 0.99}, "plane", 22, math.cos(math.pi / 22)),
        ({"dim": 16, "coherence": 0.25}, "kerdock", 144, 0.25),
        ({"dim": 64, "coherence": 0.13}, "kerdock", 2112, 0.125),
        ({"dim": 100, "count": 2000}, "kerdock", 2000, 0.125),
        ({"dim": 100, "count": 400, "coherence": 0.2}, "kerdock", 400, 0.125),
        ({"dim": 40, "count": 1000, "coherence": 0.3}, "quadratic-signs", 1000, 0.25),
        ({"dim": 10, "coherence": 0.03}, "orthonormal", 10, 0.0),
        ({"dim": 10, "coherence": 0.1}, "simplex", 11, 0.1),
        ({"dim": 3, "count": 7}, "optimised-frame", 7, 3**-0.5),
        ({"dim": 3, "count": 7, "field": "complex"}, "optimised-frame", 7, 2**0.5 / 3),
        ({"dim": 16, "count": 100, "field": "complex"}, "kerdock", 100, 0.25),
    ],
)
def test_the_construction_is_picked_and_its_coherence_is_what_is_said(
    request_: dict[str, Any], construction: str, count: int, value: float
) -> None:
    if request_.get("field") == "complex" and construction == "kerdock":
        request_ = {**request_, "construction": construction}
    found = codebook(**request_)
    assert found.construction == construction
    assert found.count == count
    assert found.dim == request_["dim"]
    assert found.vectors.shape == (count, found.dim)
    assert found.certificate.coherence == pytest.approx(value, rel=1e-7, abs=1e-12)
    assert coherence(found.vectors) == pytest.approx(found.certificate.coherence, abs=1e-6)
    assert found.certificate.field == request_.get("field", "real")
    assert found.certificate.floors[0].value <= value * (1 + 1e-9)


def test_the_floor_of_padded_vectors_is_that_of_the_whole_space() -> None:
    found = codebook(100, 2000)
    assert found.certificate.dim == 100
    assert found.certificate.floors[0] == bounds.floor(100, 2000)
    assert not found.vectors[:, 64:].any()


def test_random_signs_keep_what_is_asked_and_come_again_with_the_seed() -> None:
    first = codebook(200, 50, 0.35, construction="random-signs", seed=3)
    again = codebook(200, 50, 0.35, construction="random-signs", seed=3)
    other = codebook(200, 50, 0.35, construction="random-signs", seed=4)
    assert first.certificate.coherence <= 0.35
    assert first.certificate.exact
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    assert set(np.unique(np.concatenate(list(first.made.stored())))) == {-1, 1}


def test_most_vectors_of_a_small_space_are_searched_for() -> None:
    found = codebook(3, coherence=0.6)
    assert (found.count, found.construction) == (7, "optimised-frame")
    assert found.certificate.coherence <= 0.6
    # 1/√5 holds for 6 lines and not for 7; 5 would do as well.
    assert codebook(3, coherence=0.4473).count == 6


def test_the_document_gives_what_its_theorem_promises() -> None:
    found = codebook(1000, coherence=0.5, construction="document")
    assert found.count == found.made.details["document_promised"] == 31
    assert found.certificate.coherence < 0.5
    assert found.made.details["document_norm_as_written_least"] < 0.99
    smallest = codebook(1000, 20, construction="document").made.details["document_coherence"]
    assert bounds.document_count(1000, smallest) == 20 > bounds.document_count(1000, smallest * (1 - 1e-9))
    assert codebook(1000, 20).construction == "orthonormal"


def test_what_no_vectors_have_is_refused_with_the_floor() -> None:
    with pytest.raises(
        ImpossibleError, match=r"^impossible: Levenshtein floor 0\.140 for 10,000 vectors"
    ) as caught:
        codebook(100, 10_000, 0.1)
    assert "up to 5,100 vectors" in str(caught.value)
    assert bounds.most(100, 0.1) == 5100
    with pytest.raises(ImpossibleError, match=r"floor 0\.3333 .*above 0\.333;"):
        codebook(5, 10, 0.333)
    # What reaches the floor is not refused for a rounding.
    assert codebook(16, 144, 0.25).certificate.coherence == 0.25


def test_what_is_neither_excluded_nor_reached_is_said_so() -> None:
    with pytest.raises(OutOfReachError) as caught:
        codebook(100, 3000, 0.2)
    said = str(caught.value)
    assert said.startswith(
        "not excluded by any bound known here (floor 0.09834), but no construction here reaches"
    )
    assert "has 3,000 vectors at 0.25" in said
    assert "a Kerdock set has 2,112 vectors at 0.2" in said


def test_a_small_request_between_floor_and_reach_names_the_frame_found() -> None:
    with pytest.raises(OutOfReachError, match=r"an optimised frame has 8 vectors at 0\.6476"):
        codebook(3, 8, 0.62)
    assert codebook(3, 8, 0.648).construction == "optimised-frame"


def test_without_any_construction_random_lines_are_drawn() -> None:
    found = codebook(3, 300)
    assert found.construction == "random-lines"
    assert "no promise" in found.why
    assert found.certificate.coherence == pytest.approx(coherence(found.vectors))


def test_more_than_is_made_unasked_is_cut_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_BYTES", 64_000)
    found = codebook(64, coherence=0.13)
    assert found.count == 1000
    assert "of 2,112 that there are 1,000 are made" in found.why


@pytest.mark.parametrize("dim", [10_000, 10**8])
def test_what_exceeds_memory_as_bits_is_refused_before_work(
    dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.projection.memory.available", lambda: 10_000_000_000)
    monkeypatch.setattr("layerlab.projection.codebooks.offers", lambda *given: pytest.fail("worked on"))
    with pytest.raises(UserError, match=r"1,000,000,000 vectors .* a bit for each sign, take .* (TB|PB),"):
        codebook(dim, 10**9)
    # What cannot be is called impossible, however large.
    with pytest.raises(ImpossibleError):
        codebook(dim, 10**18, 1e-5)


def test_what_exceeds_memory_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found = codebook(1024, 20_000, construction="kerdock")
    monkeypatch.setattr("layerlab.projection.memory.available", lambda: 10_000_000)
    with pytest.raises(
        UserError, match=r"20,000 vectors of 1,024 dimensions in float32 take 81\.9 MB, and 10 MB"
    ):
        _ = found.vectors
    assert sum(len(rows) for rows in found.made.stored()) == 20_000
    with pytest.raises(
        UserError, match=r"5,000 vectors of 5,000 dimensions in float64.* take 400 MB, and 10 MB"
    ):
        codebook(5000, 5000)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"dim": 1, "count": 5}, "in dimension 1 any two vectors lie on one line"),
        ({"dim": 0, "count": 5}, "dimension of at least 2, got 0"),
        ({"dim": -3, "count": 5}, "dimension of at least 2, got -3"),
        ({"dim": 10}, "got neither"),
        ({"dim": 10, "count": 0}, "at least 2 vectors, got count 0"),
        ({"dim": 10, "count": 1}, "at least 2 vectors, got count 1"),
        ({"dim": 10, "count": -1}, "got count -1"),
        ({"dim": 10, "coherence": 0.0}, "between 0 and 1, got 0"),
        ({"dim": 10, "coherence": -0.5}, "between 0 and 1, got -0.5"),
        ({"dim": 10, "coherence": 1.0}, "between 0 and 1, got 1"),
        ({"dim": 10, "coherence": math.nan}, "between 0 and 1, got nan"),
        ({"dim": 10.5, "count": 3}, "whole number as dimension, got 10.5"),
        ({"dim": 10, "count": True}, "whole number as count"),
        ({"dim": 10, "count": 3, "field": "quaternion"}, "'quaternion'"),
        ({"dim": 10, "count": 3, "construction": "magic"}, "construction of orthonormal, .* got 'magic'"),
        ({"dim": 10, "count": 11, "construction": "orthonormal"}, "hold 10 orthonormal vectors"),
        ({"dim": 10, "count": 12, "construction": "simplex"}, "has 11 vectors"),
        ({"dim": 3, "count": 12, "construction": "plane"}, "2 real dimensions"),
        ({"dim": 3, "count": 12, "construction": "kerdock"}, "at least 4"),
        ({"dim": 4, "count": 13, "construction": "kerdock"}, "has 12 lines, got count 13"),
        ({"dim": 4, "count": 13, "construction": "quadratic-signs"}, "no code of quadratic forms"),
        ({"dim": 4, "count": 13, "construction": "random-signs"}, "hardly ever 13 different lines"),
        ({"dim": 300, "count": 700, "construction": "optimised-frame"}, "too many to optimise"),
        ({"dim": 100, "count": 700, "construction": "document"}, "only from dimension"),
        ({"dim": 100, "coherence": 0.5, "construction": "random-signs"}, "needs a count"),
    ],
)
def test_bad_requests_are_refused_in_a_line(request_: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        codebook(**request_)
    assert "\n" not in str(caught.value)


def test_a_named_construction_that_misses_the_coherence_is_refused() -> None:
    with pytest.raises(OutOfReachError, match=r"a Kerdock set has coherence 0\.125 .* above 0\.1;"):
        codebook(64, 100, 0.1, construction="kerdock")


def test_numbers_of_numpy_are_numbers() -> None:
    assert codebook(np.int64(5), np.int32(3)).count == 3  # type: ignore[arg-type]


def test_the_name_of_the_package_stays_the_function() -> None:
    assert callable(projection.codebook)
    assert projection.codebook is codebook
    assert projection.Codebook is type(codebook(3, 2))


def test_what_is_known_is_json() -> None:
    import json

    for name, count in (("kerdock", 1500), ("document", None)):
        found = codebook(1024, count, 0.6, construction=name)
        record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert record["floor"] <= record["coherence"] <= 0.6
        assert record["document_count"] == bounds.document_count(1024, record["coherence"])


def test_progress_is_told() -> None:
    told: list[float] = []
    codebook(3, 8, progress=lambda share, words: told.append(share))
    assert told
    assert max(told) == 1.0


def test_the_constructions_are_those_that_are_named() -> None:
    assert set(CONSTRUCTIONS) == set(building.BUILDERS)
