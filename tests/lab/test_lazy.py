"""Names that packages import on first use: all of them are there, and no others."""

from __future__ import annotations

import importlib

import pytest

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
