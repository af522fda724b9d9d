from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.lab.records import create_run
from layerlab.lab.report.page import render
from layerlab.projection.codebooks import codebook
from layerlab.projection.inspection import text
from layerlab.projection.inspection.measure import inspect, shown_bins
from layerlab.projection.inspection.page import inspection_page


def gaussian(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_all_is_measured_of_all_vectors() -> None:
    x = gaussian(60, 7)
    x[3] *= 5
    record = json.loads(json.dumps(inspect(x, nearest=4).to_dict(), allow_nan=False))
    unit = x / x.norm(dim=1, keepdim=True)
    cosines = {(i, j): float(unit[i] @ unit[j]) for i, j in combinations(range(60), 2)}
    near = sorted(cosines, key=lambda pair: -abs(cosines[pair]))[:4]
    assert [(p["first"], p["second"]) for p in record["nearest"]] == near
    assert record["coherence"] == pytest.approx(abs(cosines[near[0]]))
    assert record["mean_square_cosine"] == pytest.approx(np.mean(np.square(list(cosines.values()))))
    assert record["mean_square_cosine"] >= record["mean_square_cosine_least"]
    assert record["length_largest"] == pytest.approx(float(x.norm(dim=1).max()))
    assert record["length_least"] == pytest.approx(float(x.norm(dim=1).min()))


def test_the_histogram_shown_has_every_pair_and_its_expectation() -> None:
    for vectors in (gaussian(300, 20), torch.sign(gaussian(200, 33)), torch.sign(gaussian(200, 32))):
        found = inspect(vectors)
        bins = shown_bins(found.certificate)
        pairs = found.certificate.pairs
        assert sum(bins["pairs"]) == pairs
        assert sum(bins["random_pairs"]) == pytest.approx(pairs, rel=0.01)
        assert len(bins["edges"]) == len(bins["pairs"]) + 1 <= 82
        assert bins["edges"] == sorted(bins["edges"])
        assert bins["tail_pairs"][0] == pairs
        assert bins["tail_random_pairs"][0] == pytest.approx(pairs)
        expected, measured = np.array(bins["random_pairs"]), np.array(bins["pairs"])
        assert np.all(np.abs(measured - expected) < 6 * np.sqrt(expected + 4))


def test_tails_count_the_pairs_at_least_so_near() -> None:
    x = gaussian(100, 9)
    bins = shown_bins(inspect(x).certificate)
    unit = x / x.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T)[*torch.triu_indices(100, 100, 1)].abs()
    for cosine, pairs in zip(bins["tail_cosines"], bins["tail_pairs"], strict=True):
        assert pairs == int((cosines >= cosine).sum())


def test_a_sample_is_a_sample() -> None:
    x = gaussian(500, 6)
    found = inspect(x, rows=50, seed=2)
    again = inspect(x, rows=50, seed=2)
    other = inspect(x, rows=50, seed=3)
    assert (found.count, found.certificate.count) == (500, 50)
    assert found.certificate.nearest == again.certificate.nearest != other.certificate.nearest
    pair = found.certificate.nearest[0]
    unit = x / x.norm(dim=1, keepdim=True)
    assert float(unit[pair.first] @ unit[pair.second]) == pytest.approx(pair.cosine)
    assert found.certificate.floors[0].value == inspect(x).certificate.floors[0].value
    assert "50 drawn at random" in found.findings()[0]
    assert inspect(x, rows=500).findings()[0] == inspect(x).findings()[0]


def test_no_guarantee_is_called_better_that_random_vectors_beat_anyway() -> None:
    vectors = gaussian(299, 20)
    found = inspect(
        torch.cat([vectors, 2 * vectors[:1] + 0.2])
    )  # the last lies almost on the line of the first
    assert found.certificate.coherence > 0.99
    assert all(offer.coherence < found.random for offer in found.better)
    assert not any("random signs" in line for line in found.findings())


def test_what_is_better_is_named() -> None:
    found = inspect(gaussian(100, 16))
    assert [offer.construction for offer in found.better][:1] == ["kerdock"]
    assert "better: a Kerdock set has 100 vectors at 0.25" in found.findings()
    small = inspect(gaussian(9, 6))
    assert "an optimised frame may do better" in small.findings()[-1] or small.better


def test_findings_of_the_best_possible_and_of_twins() -> None:
    assert (
        inspect(codebook(16, coherence=0.25).vectors)
        .findings()[0]
        .startswith("no 144 vectors have less coherence")
    )
    assert (
        inspect(torch.eye(4)).findings()[0] == "up to as many vectors as dimensions, orthonormal ones exist"
    )
    twins = gaussian(30, 10)
    twins[7] = -3 * twins[2]
    assert inspect(twins).findings()[0].startswith("vectors 2 and 7 lie on one line:")


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (torch.ones(4, 1), "lie on one line"),
        (torch.ones(1, 4), "at least 2 vectors"),
        (torch.zeros(3, 4), "zero vector in row 0"),
        (torch.tensor([[1.0, float("nan")], [1.0, 2.0]]), "got nan in row 0, column 1"),
        (torch.tensor([[1.0, float("inf")], [1.0, 2.0]]), "got inf in row 0, column 1"),
    ],
)
def test_what_has_no_coherence_is_refused(vectors: torch.Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        inspect(vectors)


def test_a_sample_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2 vectors to measure, got 1"):
        inspect(gaussian(5, 3), rows=1)


@pytest.mark.parametrize("field", ["real", "complex"])
def test_the_page_tells_what_was_found(field: str, tmp_path: object) -> None:
    x = gaussian(40, 5)
    x = torch.complex(x, gaussian(40, 5, 1)) if field == "complex" else x
    record = {"file": "<x> *a*.npy", "array": "", **inspect(x, nearest=3).to_dict(), "made_as": None}
    run = create_run(tmp_path / "run", "codebook-inspection", "layerlab", {})  # type: ignore[operator]
    run.finish(record)
    html = render(inspection_page(run))
    assert text.number(record["coherence"]) in html
    assert "&lt;x&gt; ∗a∗.npy" in html and "<em>a</em>" not in html
    assert html.count("<figure") == 2
    for row in text.nearest_rows(record):
        assert row[2] in html


def test_a_sample_at_the_floor_does_not_make_all_of_them_the_best() -> None:
    found = inspect(codebook(16, coherence=0.25).vectors, rows=100)
    assert found.certificate.coherence == pytest.approx(0.25)
    assert not any("have less coherence" in words for words in found.findings())
