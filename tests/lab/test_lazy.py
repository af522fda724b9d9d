"""Names that packages import on first use: all of them are there, and no others."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import layerlab
from layerlab.lab.lazy import on_first_use

LAZY = (
    "attention",
    "estimators",
    "estimators.evaluation",
    "estimators.optimise",
    "gradflow",
    "graph",
    "projection",
    "segmentation",
)


@pytest.mark.parametrize("name", LAZY)
def test_a_package_has_the_names_it_tells(name: str) -> None:
    package = importlib.import_module(f"layerlab.{name}")
    for public in package.__all__:
        assert getattr(package, public) is not None
        assert public in dir(package)
    assert {"__doc__", "__all__"} <= set(dir(package))
    assert not hasattr(package, "nothing")


def test_names_come_from_their_homes() -> None:
    find, names = on_first_use("layerlab.lab", {"WEIGHTS": "trained"}, ("files",))
    assert find("WEIGHTS") == "model.safetensors"
    assert find("files").__name__ == "layerlab.lab.files"
    assert {"WEIGHTS", "files"} <= set(names())
    with pytest.raises(AttributeError, match=r"module 'layerlab.lab' has no attribute 'trained'"):
        find("trained")


def test_every_room_is_a_name_of_layerlab() -> None:
    source = Path(layerlab.__file__).parent
    rooms = {path.parent.name for path in source.glob("*/__init__.py")} - {"cli"}
    assert len(rooms) == 9
    assert rooms <= set(dir(layerlab))
    for room in rooms:
        assert getattr(layerlab, room).__name__ == f"layerlab.{room}"
    assert not hasattr(layerlab, "nothing")
