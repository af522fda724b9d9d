"""The comparison that the tests of pages and notebooks rely on finds what it should find, and nothing else."""

from __future__ import annotations

import pytest

from .printed import difference


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("│ gcn │ 81.5 │", "│ gcn  │ 81.9   │"),
        ("3 layers, 2.3 s in all", "3 layers, 14 s in all"),
        ("± 6e-16", "± 2e-15"),
        ("−0.59 of it", "−0.60 of it"),
        (
            "│ a ┃ ms/epoch ┃\n│ a │ 1 │ 2 │ 3 │ 4 │ 0.3 │ 128 │",
            "│ a ┃ ms/epoch ┃\n│ a │ 1 │ 2 │ 3 │ 4 │ 9.3 │ 7 │",
        ),
    ],
)
def test_the_same(shown: str, printed: str) -> None:
    assert difference(shown, printed) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("verdict: holds", "verdict: violated"),
        ("78 components", "77 components"),
        ("accuracy 81.5 %", "accuracy 56.8 %"),
        ("one line", "one line more"),
        ("one line more", "one line"),
        ("σ max 0.25", "σ max 0.5"),
        ("−0.59 of it", "0.59 of it"),
        ("10,038 parameters", "23,063 parameters"),
    ],
)
def test_a_difference(shown: str, printed: str) -> None:
    assert difference(shown, printed) != ""
