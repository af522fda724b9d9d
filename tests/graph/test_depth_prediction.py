"""The depth scores: what they read and do not read, against a regression solved row by row, and where they point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from communities import communities

from layerlab.errors import UserError
from layerlab.graph import depth_prediction
from layerlab.graph.depth_prediction import predict_depth
from layerlab.graph.generate import block_model, cycle_model
from layerlab.graph.node_data import NodeDataset, Split

DEPTHS = range(9)


@pytest.fixture(scope="module")
def data() -> NodeDataset:
    return block_model(600, homophily=0.9, signal=1.0, seed=3)


def test_only_training_labels_are_read(data: NodeDataset) -> None:
    assert data.split is not None
    hidden = np.full(data.num_nodes, -1)
    hidden[data.split.train] = data.labels[data.split.train]
    bare = replace(data, labels=hidden, split=Split(data.split.train, [], []))
    one, other = predict_depth(data, DEPTHS), predict_depth(bare, DEPTHS)
    np.testing.assert_array_equal(one.score, other.score)
    shuffled = np.random.default_rng(0).permutation(data.labels)
    assert predict_depth(replace(data, labels=shuffled), DEPTHS).score.max() < one.score.max()


def test_the_score_is_the_held_out_accuracy_smoothed_in_log_depth(data: NodeDataset) -> None:
    found = predict_depth(data, DEPTHS)
    assert found.held_out.shape == (depth_prediction.HALVINGS, 9)
    raw = found.held_out.mean(axis=0)
    for depth in DEPTHS:
        far = [np.log((other + 1) / (depth + 1)) / depth_prediction.SMOOTHING for other in DEPTHS]
        weights = np.exp(-np.square(far) / 2)
        assert found.score[depth] == pytest.approx((weights * raw).sum() / weights.sum())
    assert found.best == int(found.score.argmax())
    assert found.best in found.plausible
    assert found.to_dict()["best"] == found.best
    np.testing.assert_allclose(found.to_dict()["held_out"], raw)
    # Twenty labels a class of four: chance is a quarter, and this graph is easy.
    assert raw[found.best] > 0.8 > 0.5 > raw[0]


def test_one_lucky_depth_is_not_taken(monkeypatch: pytest.MonkeyPatch, data: NodeDataset) -> None:
    deep = iter(range(100))
    # Two regressions a depth: 16 and above are right three times in four, and so is 2 alone, always.
    lucky = {depth: 0.75 if depth >= 16 else 0.0 for depth in range(1, 33)} | {2: 0.8}

    def answers(known: object, chosen: object, asked: np.ndarray, *rest: object) -> np.ndarray:
        share = lucky[next(deep) // 2 + 1]
        assert data.split is not None
        truth = data.labels[np.random.default_rng(0).permutation(data.split.train)][asked]
        return np.where(np.arange(asked.shape[1]) < share * asked.shape[1], truth, -2)

    monkeypatch.setattr(depth_prediction, "_ridge_answers", answers)
    found = predict_depth(data)
    assert found.held_out.mean(axis=0).argmax() + 1 == 2
    assert found.best > 20


def test_the_plausible_depths_are_those_within_one_paired_error(data: NodeDataset) -> None:
    found = predict_depth(data, range(13))
    smoothed = found.held_out @ depth_prediction._smoother(range(13)).T
    behind = smoothed[:, [found.best]] - smoothed
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(smoothed))
    gaps = found.score[found.best] - found.score
    assert found.plausible == tuple(np.flatnonzero(gaps <= error).tolist())
    assert 1 < len(found.plausible) < 13


def test_the_ridge_regression_is_one() -> None:
    generator = np.random.default_rng(0)
    # Far from the origin: an intercept is needed, and must not be penalised.
    known = 5 + generator.standard_normal((24, 30))
    chosen = np.stack([generator.permutation(24)[:12] for _ in range(2)])
    asked = np.stack([np.setdiff1d(np.arange(24), nodes) for nodes in chosen])
    targets = np.eye(3)[generator.integers(0, 3, (2, 12))]
    got = depth_prediction._ridge_answers(known, chosen, asked, targets, 0.3)
    for nodes, others, y, answers in zip(chosen, asked, targets, got, strict=True):
        # Least squares on stacked rows: the intercept is a column without penalty.
        penalty = np.sqrt(0.3 * 12) * np.eye(31)[:30]
        rows = np.vstack([np.hstack([known[nodes], np.ones((12, 1))]), penalty])
        solution = np.linalg.lstsq(rows, np.vstack([y, np.zeros((30, 3))]), rcond=None)[0]
        np.testing.assert_array_equal(
            answers, (np.hstack([known[others], np.ones((12, 1))]) @ solution).argmax(axis=1)
        )


def test_each_half_is_asked_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[np.ndarray, np.ndarray]] = []
    real = depth_prediction._ridge_answers

    def watched(known: np.ndarray, chosen: np.ndarray, asked: np.ndarray, *rest: Any) -> np.ndarray:
        calls.append((chosen, asked))
        return real(known, chosen, asked, *rest)

    monkeypatch.setattr(depth_prediction, "_ridge_answers", watched)
    # Labels that nothing tells: a half asked for itself would be right by heart.
    data = communities(40)
    told = replace(data, labels=np.random.default_rng(1).integers(0, 2, 40))
    found = predict_depth(told, [0], split=Split(np.arange(40), [], []))
    assert 0.3 < found.held_out.mean() < 0.7
    (left, right), (again, back) = calls
    np.testing.assert_array_equal([left, right], [back, again])
    assert (np.sort(np.concatenate([left, right], axis=1), axis=1) == np.arange(40)).all()


def test_halves_share_every_class_and_no_node() -> None:
    labels = np.repeat([0, 1, 2], [7, 6, 2])
    left, right = depth_prediction._halves(labels, 5, np.random.default_rng(0))
    assert left.shape == right.shape == (5, 7)
    for one, other in zip(left, right, strict=True):
        assert not set(one) & set(other)
        shares = [np.bincount(labels[side], minlength=3) for side in (one, other)]
        assert np.abs(shares[0] - shares[1]).max() <= 1
    assert len({tuple(sorted(one)) for one in left}) == 5


def test_long_smooth_classes_ask_for_depth_and_disagreeing_neighbours_for_little() -> None:
    deep = predict_depth(cycle_model(800, signal=1.0, seed=1))
    shallow = predict_depth(block_model(800, homophily=0.6, degree=12.0, signal=2.0, seed=1))
    assert deep.best > 20
    assert shallow.best < 6


def test_a_signal_that_training_cannot_amplify_counts_as_lost() -> None:
    # Twelve neighbours a node: after 32 layers what tells the classes apart is 10^-8 of the features.
    found = predict_depth(
        block_model(800, classes=2, homophily=0.7, degree=12.0, signal=2.0, seed=1), [3, 32]
    )
    assert found.held_out[:, 0].mean() > 0.9
    assert found.held_out[:, 1].mean() < 0.7


def test_many_nodes_are_sampled(monkeypatch: pytest.MonkeyPatch, data: NodeDataset) -> None:
    monkeypatch.setattr(depth_prediction, "_MOST_TRAINING", 40)
    np.testing.assert_array_equal(np.unique(np.round(predict_depth(data, [0, 3]).held_out * 40, 6) % 1), [0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": []}, "depths >= 0"),
        ({"depths": [2, 2]}, "each once"),
        ({"depths": [-1, 2]}, "depths >= 0"),
        ({"split": Split([0, 1, 2], [], [])}, "four training nodes"),
        ({"split": Split([0, 2, 4, 6], [], [])}, "4 nodes, 1 classes"),
    ],
)
def test_what_cannot_be_predicted_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict_depth(communities(), **{"depths": [1], **change})  # type: ignore[arg-type]


def test_a_data_set_without_a_split_is_refused() -> None:
    with pytest.raises(UserError, match="has no split"):
        predict_depth(communities(split=False))
