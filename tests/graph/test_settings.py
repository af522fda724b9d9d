"""Settings: those of the papers and of the course, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from communities import communities, small

from layerlab.errors import UserError
from layerlab.graph.settings import MODELS, Settings, settings_for
from layerlab.graph.task import parts_for, schedule_for


@pytest.mark.parametrize(
    ("model", "dataset", "expected"),
    [
        (
            "gcn",
            "cora",
            {
                "hidden": 16,
                "dropout": 0.5,
                "learning_rate": 0.01,
                "weight_decay": 5e-4,
                "decay_all": False,
                "epochs": 200,
            },
        ),
        (
            "gat",
            "citeseer",
            {
                "hidden": 8,
                "heads": 8,
                "out_heads": 1,
                "dropout": 0.6,
                "learning_rate": 0.005,
                "weight_decay": 5e-4,
                "decay_all": True,
                "patience": 100,
            },
        ),
        ("gat", "pubmed", {"heads": 8, "out_heads": 8, "learning_rate": 0.01, "weight_decay": 1e-3}),
        ("sgc", "cora", {"steps": 2, "learning_rate": 0.2, "epochs": 100, "monitor": None}),
    ],
)
def test_the_settings_of_the_papers(model: str, dataset: str, expected: dict[str, Any]) -> None:
    settings = settings_for(model, "public", dataset)
    assert {name: getattr(settings, name) for name in expected} == expected
    assert settings.layers == 2
    assert not settings.course


@pytest.mark.parametrize(("model", "hidden"), [("gcn", 16), ("gat", 2)])
def test_the_settings_of_the_course(model: str, hidden: int) -> None:
    settings = settings_for(model, "course", "cora")
    assert settings == Settings(
        model,
        hidden=hidden,
        heads=8,
        dropout=0.5,
        learning_rate=0.01,
        weight_decay=5e-4,
        decay_all=True,
        epochs=100,
        patience=None,
        monitor=None,
        course=True,
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_data_set_of_ones_own_is_trained_with_the_default_settings(model: str) -> None:
    assert settings_for(model, "random", "club") == settings_for(model, "public", "cora")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown model 'gin'; expected one of gcn, gat, sgc, mlp"):
        settings_for("gin", "public", "cora")
    with pytest.raises(UserError, match="unknown protocol 'mine'; expected one of public, random, course"):
        settings_for("gcn", "mine", "cora")
    with pytest.raises(UserError, match="unknown protocol 'mine'"):
        parts_for(communities(), "mine", 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "gin"),
        ("model", ["gcn"]),
        ("hidden", 0),
        ("hidden", 10**30),
        ("hidden", 8.0),
        ("hidden", True),
        ("hidden", None),
        ("heads", "8"),
        ("out_heads", -1),
        ("steps", 10**9),
        ("layers", 0),
        ("epochs", 0),
        ("patience", 0),
        ("patience", float("inf")),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("dropout", False),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("learning_rate", 10**400),
        ("weight_decay", -1e-4),
        ("weight_decay", "small"),
        ("decay_all", 1),
        ("course", "no"),
        ("monitor", "test_accuracy"),
        ("monitor", 3),
    ],
)
def test_a_setting_out_of_its_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=name):
        Settings(**{"model": "gcn", name: value})


def test_settings_at_the_ends_of_their_ranges_are_taken() -> None:
    Settings(
        "sgc", steps=0, dropout=0.0, weight_decay=0, epochs=1, hidden=1, patience=1, monitor="validation_loss"
    )
    Settings("gcn", hidden=np.int64(3), dropout=np.float32(0.25), learning_rate=1)


def test_the_course_models_have_two_layers() -> None:
    with pytest.raises(UserError, match="two layers"):
        Settings("gat", course=True, layers=3)


def test_patience_watches_loss_and_accuracy() -> None:
    assert schedule_for(small("gcn")).watch == ()
    gat = schedule_for(settings_for("gat", "public", "cora"))
    assert (gat.epochs, gat.monitor, gat.patience) == (1000, "validation_accuracy", 100)
    assert gat.watch == ("validation_loss", "validation_accuracy")
