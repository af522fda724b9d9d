"""What `layerlab.gradflow` offers under its own name."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from layerlab import gradflow


@pytest.mark.parametrize("name", gradflow.__all__)
def test_every_name_is_there_documented_and_no_module(name: str) -> None:
    found = getattr(gradflow, name)
    assert not isinstance(found, ModuleType)
    assert inspect.getdoc(found)
    assert name in dir(gradflow)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = gradflow.nothing
