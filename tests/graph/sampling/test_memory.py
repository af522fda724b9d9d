"""The estimate of memory, what is chosen from it, and what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted_data import Columns, planted

from layerlab.graph.sampling import memory
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.memory import choose, full_batch, mini_batch
from layerlab.graph.settings import Settings
from layerlab.graph.task import Parts, parts_for

DATA = planted(3000)
PARTS = parts_for(DATA, "public", 0)
GCN = Settings("gcn", hidden=256, layers=3)


def free(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    monkeypatch.setattr(memory, "available", lambda: count)


def test_a_full_batch_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**10)
    choice = choose(DATA, PARTS, GCN, None)
    assert choice.batching is None
    assert choice.chosen == choice.full
    assert choice.sentence.startswith("full batch: it takes about ")
    assert choice.sentence.endswith(" of 10 GB of free memory")
    assert choice.record()["mode"] == "full"


def test_one_that_does_not_fit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    full = full_batch(DATA, PARTS, GCN).total
    for share, expected in ((0.79, None), (0.81, Batching(1024, (15, 10, 5)))):
        free(monkeypatch, int(full / share))
        assert choose(DATA, PARTS, GCN, None).batching == expected
    said = choose(DATA, PARTS, GCN, None).sentence
    assert said.startswith("mini-batches of 1,024 nodes, fan-out 15,10,5: a full batch would take about ")


def test_what_is_asked_for_is_done_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**10)
    choice = choose(DATA, PARTS, GCN, Batching(64, (-1, 3, 2)))
    assert choice.batching == Batching(64, (-1, 3, 2))
    assert "mini-batches of 64 nodes, fan-out all,3,2: as asked" in choice.sentence
    record = choice.record()
    assert record["estimate_bytes"]["total"] == choice.chosen.total < record["full_batch_bytes"]
    assert choose(DATA, PARTS, Settings("sgc"), Batching(64, (3,))).batching == Batching(64)


def test_more_than_there_is_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    said = choose(DATA, PARTS, GCN, None).sentence
    assert "that is more than there is" in said
    assert "smaller --batch-size" in said


def test_the_course_and_machines_that_do_not_tell_take_full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, None)
    assert "an unknown amount of memory" in choose(DATA, PARTS, GCN, None).sentence
    free(monkeypatch, 1000)
    assert choose(DATA, PARTS, Settings("gcn", course=True), None).batching is None


def test_features_too_large_for_a_matrix_are_read_by_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**12)
    stored = planted(3000)
    object.__setattr__(stored, "features", Columns(stored.features.to_dense(), 8))
    assert choose(stored, PARTS, GCN, None).batching is None
    monkeypatch.setattr(memory, "SMALL", 100)
    choice = choose(stored, PARTS, GCN, None)
    assert choice.batching == Batching(1024, (15, 10, 5))
    assert "the features stay in their files" in choice.sentence


@pytest.mark.parametrize("model", ["gcn", "gat", "sgc", "mlp"])
def test_estimates_grow_with_what_they_count(model: str) -> None:
    settings = Settings(model, hidden=16)
    few, batching = replace_train(50), Batching(32, ())
    assert full_batch(DATA, few, settings).total < full_batch(DATA, PARTS, settings).total
    small, large = (mini_batch(DATA, PARTS, settings, Batching(s, (5, 5))).total for s in (10, 1000))
    assert small < large
    if model in ("gcn", "gat"):
        wider = replace(settings, hidden=64)
        assert full_batch(DATA, PARTS, settings).activations < full_batch(DATA, PARTS, wider).activations
        one, two = (mini_batch(DATA, PARTS, settings, replace(batching, fanouts=f)) for f in ((1, 1), (5, 5)))
        assert one.fields < two.fields


def replace_train(count: int) -> Parts:
    return replace(PARTS, train=PARTS.train[:count])
