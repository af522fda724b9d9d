"""Projecting data: what is refused, what is said, and drawing again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from layerlab.errors import UserError
from layerlab.projection import tails
from layerlab.projection.projecting import measure as projecting
from layerlab.projection.projecting.files import read_points, write_points
from layerlab.projection.projecting.measure import Settings, project

ROWS = np.random.default_rng(0).standard_normal((30, 500))


def test_the_dimension_and_its_probability_are_told() -> None:
    found = project(ROWS, Settings(eps=0.5, failure=0.01))
    known = tails.dimension(30, 0.5, 0.01)
    assert found.values.shape == (30, known.dim)
    assert found.distortion.within
    assert found.distortion.exhaustive
    record = json.loads(json.dumps(found.to_dict()))
    assert (record["stated_failure"], record["proved"]) == (known.failure, True)
    assert record["formulas"][0]["dim"] == known.dim
    assert record["verdict"].startswith("the first map drawn keeps all 435 squared distances within 0.5")


def test_it_draws_again_as_often_as_was_agreed_and_keeps_the_best() -> None:
    settings = {"eps": 0.5, "dim": 40}
    assert project(ROWS, Settings(**settings)).draws == 1
    again = project(ROWS, Settings(**settings, draws=200))
    assert 1 < again.draws < 200
    assert again.distortion.within
    assert again.verdict().startswith(f"the last of {again.draws} maps drawn keeps all")
    bad = [project(ROWS, Settings(eps=0.5, dim=8, draws=n)) for n in (1, 30)]
    assert bad[1].draws == 30
    assert bad[1].distortion.largest < bad[0].distortion.largest
    assert "none of 30 maps drawn is within, the best is beyond 0.5" in bad[1].verdict()
    # What is returned is what was measured.
    kept = projecting.JLTransform(8, eps=0.5, random_state=0).fit(ROWS)
    assert np.array_equal(bad[0].values, kept.transform(ROWS))


def test_a_sample_is_said_to_be_one() -> None:
    found = project(ROWS, Settings(eps=0.5, pairs=100))
    assert "100 of 435 pairs were measured" in found.notes[0]
    assert "keeps all of 100 sampled" in found.verdict()


def test_zero_rows_and_duplicates_are_told() -> None:
    rows = ROWS.copy()
    rows[3] = rows[4] = 0
    rows[7] = rows[8]
    found = project(rows, Settings(eps=0.5))
    assert found.notes[0] == "2 zero rows: they stay zero"
    assert found.notes[1].startswith("2 of the measured pairs are equal rows")


def test_whole_numbers_and_float32_come_as_they_are() -> None:
    assert project(ROWS.astype(np.float32), Settings(dim=5)).values.dtype == np.float32
    whole = np.random.default_rng(0).integers(0, 255, (20, 40), dtype=np.uint8)
    assert project(whole, Settings(dim=5)).values.dtype == np.float64


@pytest.mark.parametrize("kind", tails.KINDS)
def test_a_map_that_comes_mapped_from_a_file_is_read(kind: tails.Kind, tmp_path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    points = read_points(str(tmp_path / "rows.npy"))
    assert isinstance(points, np.memmap)
    found = project(points, Settings(eps=0.6, kind=kind))
    assert np.array_equal(found.values, project(ROWS, Settings(eps=0.6, kind=kind)).values)


def test_points_are_written_with_their_record(tmp_path) -> None:
    found = project(ROWS, Settings(eps=0.6))
    write_points(tmp_path / "a.npz", found.values, found.to_dict())
    with np.load(tmp_path / "a.npz") as archive:
        assert np.array_equal(archive["vectors"], found.values)
        assert json.loads(str(archive["projection"]))["dim"] == found.values.shape[1]
    write_points(tmp_path / "a.npy", found.values, {})
    assert np.array_equal(np.load(tmp_path / "a.npy"), found.values)


def with_value(value: float) -> np.ndarray:
    rows = ROWS.copy()
    rows[17, 3] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (with_value(np.nan), {"eps": 0.5}, "row 17, column 3 is nan"),
        (with_value(np.inf), {"eps": 0.5}, "row 17, column 3 is inf"),
        (ROWS[:1], {}, "two points at least, got 1 row"),
        (ROWS[0], {}, "expected a table"),
        (ROWS[:, :0], {}, "expected a table"),
        (ROWS.astype(complex), {}, "expected real numbers, got complex128"),
        (ROWS.astype(str), {}, "expected real numbers"),
        (ROWS, {"eps": 0.0}, "eps between 0 and 1"),
        (ROWS, {"eps": 1.0, "dim": 3}, "eps between 0 and 1"),
        (ROWS, {"failure": 1.5}, "failure probability"),
        (ROWS, {"eps": 0.1}, "projecting does not pay; it would from eps 0.24 on"),
        (ROWS[:, :3], {"eps": 0.1}, "it would for no eps below 1"),
        (ROWS, {"eps": 0.5, "draws": 0}, "at least one map to draw, got draws 0"),
        (ROWS, {"eps": 0.5, "draws": -1}, "at least one map to draw, got draws -1"),
        (ROWS, {"dim": 500}, "no fewer than the data's 500: projecting does not pay"),
    ],
)
def test_refusals(rows, options, words: str) -> None:
    with pytest.raises(UserError, match=words):
        project(rows, Settings(**options))


def test_what_does_not_fit_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.projection.memory.available", lambda: 100_000)
    with pytest.raises(UserError, match=r"images of 30 x 500 points in \d+ dimensions take .*project parts"):
        project(ROWS, Settings(eps=0.5))
