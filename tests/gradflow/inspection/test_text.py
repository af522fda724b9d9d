"""The numbers of a profile as people read them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from layerlab.gradflow.inspection import text

TEN = math.log(10)


def record(
    gradients: list[float | None], designed: list[float] | None = None, blamed: str | None = None
) -> Any:
    """Of layers called 0, 1, …, with decimal logarithms of gradients, the last that of the output."""
    layers = [
        {"name": str(i), "log_gradient": [None if g is None else g * TEN], "designed": d * TEN}
        for i, (g, d) in enumerate(zip(gradients[:-1], designed or [0.0] * (len(gradients) - 1), strict=True))
    ]
    end = gradients[-1]
    assert end is not None
    return {"layers": layers, "log_output_gradient": [end * TEN], "verdict": {"layer": blamed}}


def test_gradients_are_relative_and_without_averages() -> None:
    found = record([-4.0, -3.0, -1.0, 2.0], [0.0, -2.0, 0.0])
    assert text.gradients(found) == pytest.approx([-4.0, -3.0, -3.0])
    assert text.changes(found) == pytest.approx([-1.0, 0.0, -3.0])


def test_gradients_are_root_mean_squares_and_zeros_count() -> None:
    found = record([0.0, 0.0])
    found["layers"][0]["log_gradient"] = [math.log(3), math.log(4), None, None]
    assert text.gradients(found) == pytest.approx([math.log10(2.5)])
    found["layers"][0]["log_gradient"] = [None, None]
    assert text.gradients(found) == [None] and text.decimal(None) == "−∞"


def test_layers_of_interest_are_ends_the_steepest_and_the_blamed() -> None:
    logs = [0.0] * 101
    logs[:51] = [-3.0] * 51  # all of it is lost in layer 50
    found = record(logs, blamed="70")
    kept = text.of_interest(found, 12)
    assert len(kept) == 12 and kept == sorted(kept)
    assert {0, 1, 2, 3, 50, 70, 96, 97, 98, 99} <= set(kept)
    assert text.of_interest(record([0.0] * 6), 12) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("activations", "words"),
    [
        ([], ""),
        ([{"kind": "sigmoid", "saturated": 0.3, "dead": 0.0}], "30 % sat."),
        # Half of a ReLU's entries are off, and that is as it should be.
        ([{"kind": "relu", "saturated": 0.5, "dead": 0.1}], "10 % dead"),
        (
            [
                {"kind": "softmax", "saturated": 0.2, "dead": None},
                {"kind": "relu", "saturated": 1, "dead": 0.1},
            ],
            "20 % sat.",
        ),
    ],
)
def test_flatness(activations: list[dict[str, Any]], words: str) -> None:
    assert text.flatness({"activations": activations}) == words


def test_marks_of_what_is_not_exact() -> None:
    layer = {
        "sigma_max": [2.0, 3.0, None],
        "sigma_max_error": [0.0, 0.01, None],
        "sigma_min": [0.5, 0.25, None],
        "sigma_min_exact": False,
        "method": "lanczos",
        "bound": 4.0,
        "bound_scope": "these inputs",
    }
    assert (text.sigma(layer), text.sigma_min(layer), text.bound(layer)) == ("3 ±0.03", "≤ 0.25", "4 here")
    layer |= {"sigma_min_exact": True, "method": "dense", "bound": None, "bound_scope": "unknown"}
    assert (text.sigma(layer), text.sigma_min(layer), text.bound(layer)) == ("3", "0.25", "–")
