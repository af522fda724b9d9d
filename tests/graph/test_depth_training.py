"""Training over depths: the same as one run at a time, and the rule of what is near best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from communities import communities

from layerlab.errors import UserError
from layerlab.graph import depth_training
from layerlab.graph.depth_training import DepthCurve, splits_for, train_depths
from layerlab.graph.experiments import train
from layerlab.graph.generate import block_model
from layerlab.graph.node_data import Split
from layerlab.graph.settings import settings_for
from layerlab.graph.splits import few_label_split, resampled_split

SHORT = replace(settings_for("sgc", "public", "x"), epochs=20)


def test_every_cell_is_what_a_run_by_itself_gives() -> None:
    data = block_model(300, classes=3, signal=2.0, seed=1)
    splits = splits_for(data, 2)
    curve = train_depths(data, [3, 0, 1], splits=splits, settings=SHORT)
    assert curve.depths == (0, 1, 3)
    for row, split in enumerate(splits):
        for column, depth in enumerate(curve.depths):
            alone = train(replace(data, split=split), replace(SHORT, steps=depth), "public", seed=row).metrics
            assert curve.validation[row, column] == pytest.approx(alone["validation_accuracy"])
            assert curve.test[row, column] == pytest.approx(alone["test_accuracy"])
    assert np.unique(curve.validation).size > 2


@pytest.mark.parametrize("limit", [("_MOST_TOGETHER", 2), ("_MOST_NUMBERS", 2 * 60 * 12)])
def test_depths_are_trained_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]) -> None:
    data, depths = communities(), [0, 1, 3, 4, 7]
    whole = train_depths(data, depths, settings=SHORT)
    monkeypatch.setattr(depth_training, *limit)
    seen: list[tuple[int, int]] = []
    parts = train_depths(
        data, depths, settings=SHORT, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]
    np.testing.assert_array_equal(parts.validation, whole.validation)
    np.testing.assert_array_equal(parts.test, whole.test)


def test_a_split_without_test_nodes_has_no_test_accuracy() -> None:
    curve = train_depths(communities(), [1], splits=[Split([0, 1], [2, 3], [])], settings=SHORT)
    assert np.isnan(curve.test).all()
    assert np.isfinite(curve.validation).all()


def test_near_best_is_within_one_standard_error_of_the_best() -> None:
    # Means .60 .80 .79 .77; the best depth's spread is .02, its standard error .02 / sqrt(3) = .0115.
    validation = np.array([[0.60, 0.78, 0.79, 0.77], [0.60, 0.80, 0.79, 0.77], [0.60, 0.82, 0.79, 0.77]])
    curve = DepthCurve((1, 2, 4, 8), validation, validation)
    assert curve.best == 2
    assert curve.standard_error[1] == pytest.approx(0.02 / np.sqrt(3))
    assert curve.near_best() == (2, 4)
    assert [curve.distance(depth) for depth in (1, 2, 3, 5, 8)] == [1, 0, 1, 1, 4]
    assert curve.to_dict()["near_best"] == [2, 4]


def test_one_split_has_no_standard_error() -> None:
    curve = DepthCurve((1, 2, 3), np.array([[0.5, 0.7, 0.7]]), np.array([[0.5, 0.7, 0.7]]))
    assert np.isnan(curve.standard_error).all()
    assert curve.near_best() == (2, 3)


def test_splits_are_the_own_one_and_others_like_it() -> None:
    data = block_model(400, seed=3)
    own, *others = splits_for(data, 3)
    assert own is data.split
    for split in others:
        assert split.sizes == own.sizes
        assert np.bincount(data.labels[split.train]).tolist() == [20, 20, 20, 20]
        assert set(split.train) != set(own.train)
    assert set(others[0].train) != set(others[1].train)
    without = splits_for(replace(data, split=None), 2)
    assert [split.sizes for split in without] == [(240, 80, 80)] * 2


def test_few_labels_are_few_of_every_class() -> None:
    labels = np.array([0] * 100 + [1] * 50 + [2] * 6 + [3] + [-1] * 10)
    split = few_label_split(labels, seed=0, per_class=5, validation=40, test=60)
    assert np.bincount(labels[split.train]).tolist() == [5, 5, 3, 1]
    assert split.sizes[1:] == (40, 60)
    assert (labels[np.concatenate([split.train, split.validation, split.test])] >= 0).all()
    small = few_label_split(labels, seed=0, per_class=5)
    assert small.sizes == (14, 47, 96)
    again = resampled_split(labels, split, seed=0)
    assert np.bincount(labels[again.train]).tolist() == [5, 5, 3, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": []}, "depths >= 0"),
        ({"depths": [1, 1]}, "each once"),
        ({"depths": [-1]}, "depths >= 0"),
        ({"splits": []}, "training and validation"),
        ({"splits": [Split([0], [], [1])]}, "training and validation"),
        ({"settings": settings_for("gcn", "public", "x")}, "settings of an SGC"),
        ({"settings": replace(SHORT, monitor="validation_accuracy")}, "keeps its last epoch"),
    ],
)
def test_wrong_requests_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_depths(communities(), **{"depths": [1], "settings": SHORT, **change})  # type: ignore[arg-type]


def test_wrong_splits_are_refused() -> None:
    with pytest.raises(UserError, match="at least one split"):
        splits_for(communities(), 0)
    with pytest.raises(UserError, match="at least one node a class"):
        few_label_split([0, 1], seed=0, per_class=0)
    with pytest.raises(UserError, match="labelled node"):
        few_label_split([-1], seed=0)
