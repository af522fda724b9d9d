"""Spaces of samples, and parameters from options and files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerlab.errors import UserError
from layerlab.estimators.enumeration import outcomes
from layerlab.estimators.space import MOST_PARAMETERS, Space

BITS, CATEGORIES, GAUSSIAN = Space.parse(3), Space.parse(categories="2x3"), Space.parse(gaussian=2)


@pytest.mark.parametrize(
    ("space", "shape", "outcomes", "words", "option"),
    [
        (BITS, (3,), 8, "3 bits", "--bits 3"),
        (Space.parse(1), (1,), 2, "1 bit", "--bits 1"),
        (CATEGORIES, (2, 3), 9, "2 variables of 3 values", "--categories 2x3"),
        (Space.parse(categories="1×5"), (1, 5), 5, "1 variable of 5 values", "--categories 1x5"),
        (GAUSSIAN, (2, 2), None, "2 real numbers", "--gaussian 2"),
    ],
)
def test_shapes_and_words(
    space: Space, shape: tuple[int, ...], outcomes: int | None, words: str, option: str
) -> None:
    assert (space.shape, space.outcomes, space.describe(), space.option) == (shape, outcomes, words, option)
    assert space.default().shape == shape and space.default().dtype == torch.float64
    assert not space.default().any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "got 0 of them"),
        ({"bits": 3, "gaussian": 2}, "got 2 of them"),
        ({"bits": 0}, "at least one variable, got 0"),
        ({"bits": -3}, "at least one variable, got -3"),
        ({"gaussian": 0}, "at least one variable"),
        ({"categories": "0x4"}, "at least one variable"),
        ({"categories": "4x1"}, "at least 2 values"),
        ({"categories": "4"}, "DIMSxK, such as 4x8"),
        ({"categories": "4x8x2"}, "DIMSxK"),
        ({"bits": MOST_PARAMETERS + 1}, "more than 16,777,216"),
        ({"categories": "999999999x999999999"}, "more than 16,777,216"),
    ],
)
def test_what_is_no_space(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Space.parse(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("trits", 4, 3), "expected a space of bits, categories, gaussian, got 'trits'"),
        (("bits", 4, 3), "expected 2 values of a bit and 0 of a real number, got 3 of bits"),
        (("gaussian", 4, 2), "got 2 of gaussian"),
    ],
)
def test_a_space_that_no_option_gives(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Space(*given)


def test_sampled_parameters_are_uniform_and_seeded() -> None:
    count = 2000
    for space in (BITS, CATEGORIES, GAUSSIAN):
        drawn, again = (torch.stack(space.sampled(count, torch.Generator().manual_seed(1))) for _ in range(2))
        assert drawn.shape == (count, *space.shape) and torch.equal(drawn, again)
        assert bool(torch.isfinite(drawn).all())
        if space.kind == "gaussian":
            # Within 5 standard errors, also below.
            assert abs(float(drawn[:, 0].std()) - 1) < 5 / math.sqrt(2 * 2 * count)
            assert abs(float(drawn[:, 1].std()) - 0.5) < 2.5 / math.sqrt(2 * 2 * count)
            continue
        chance = drawn.sigmoid() if space.kind == "bits" else drawn.exp()
        if space.kind == "categories":
            torch.testing.assert_close(chance.sum(-1), torch.ones_like(chance.sum(-1)))
        mean, variance = (1 / 2, 1 / 12) if space.kind == "bits" else (1 / 3, 1 / 18)
        assert abs(float(chance[..., 0].mean()) - mean) < 5 * math.sqrt(variance / chance[..., 0].numel())
        assert abs(float(chance[..., 0].var()) / variance - 1) < 0.1


def test_parameters_of_a_probability() -> None:
    torch.testing.assert_close(BITS.at_probability(0.3).sigmoid(), torch.full((3,), 0.3, dtype=torch.float64))
    for chance in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(UserError, match="strictly between 0 and 1"):
            BITS.at_probability(chance)
    with pytest.raises(UserError, match="give --parameters"):
        CATEGORIES.at_probability(0.3)


@pytest.mark.parametrize(
    ("space", "held", "expected"),
    [
        (BITS, [1, 2.5, -3], [1, 2.5, -3]),
        (BITS, {"logits": [0, 0, 1]}, [0, 0, 1]),
        (BITS, {"probabilities": [0.5, 0.5, 1 / (1 + math.e)]}, [0, 0, -1]),
        (CATEGORIES, {"probabilities": [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]}, None),
        (GAUSSIAN, {"mean": [1, 2], "std": [1, math.e]}, [[1, 2], [0, 1]]),
        (GAUSSIAN, {"mean": [1, 2], "log_std": [0, 1]}, [[1, 2], [0, 1]]),
        (GAUSSIAN, {"best": 3, "parameters": {"mean": [1, 2], "log_std": [0, 1]}}, [[1, 2], [0, 1]]),
    ],
)
def test_parameters_from_json(space: Space, held: Any, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    path.write_text(json.dumps(held))
    found = space.read(path)
    if expected is None:
        torch.testing.assert_close(
            found.softmax(-1), torch.tensor(held["probabilities"], dtype=torch.float64)
        )
    else:
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    # What `to_json` writes is read as it was.
    path.write_text(json.dumps(space.to_json(found)))
    assert torch.equal(space.read(path), found)


def test_parameters_from_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "held.npy", np.array([1, 2, 3], np.float32))
    found = BITS.read(tmp_path / "held.npy")
    assert found.tolist() == [1, 2, 3] and found.dtype == torch.float64


@pytest.mark.parametrize(
    ("space", "held", "words"),
    [
        (BITS, "[1, 2]", r"shape \(3,\) for 3 bits, got \(2,\)"),
        (BITS, "[1, [2], 3]", "different lengths"),
        (BITS, '["a", "b", "c"]', "real numbers"),
        (BITS, "[1, 2, NaN]", "finite logits"),
        (BITS, "[1, 2, Infinity]", "leave it out"),
        (BITS, '{"probabilities": [0.5, 0.5, 1]}', "strictly between 0 and 1"),
        (BITS, '{"mean": [0, 0, 0]}', "got the keys mean"),
        (BITS, "nonsense", "damaged or something else"),
        (BITS, "[" * 100_000, "damaged or something else"),
        (CATEGORIES, '{"probabilities": [[0.5, 0.2, 0.2], [0.2, 0.2, 0.6]]}', "add up to 1"),
        (GAUSSIAN, '{"mean": [0, 0], "std": [1, 0]}', "above 0"),
        (GAUSSIAN, '{"mean": [0, 0], "std": [1]}', "different lengths"),
    ],
)
def test_files_that_hold_no_parameters(space: Space, held: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    path.write_text(held)
    with pytest.raises(UserError, match=words) as caught:
        space.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        BITS.read(tmp_path / "none.json")
    np.save(tmp_path / "objects.npy", np.array([{}, 1, 2], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged or something else"):
        BITS.read(tmp_path / "objects.npy")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="damaged or something else"):
        BITS.read(tmp_path / "bytes.json")


@pytest.mark.parametrize("space", [BITS, CATEGORIES, GAUSSIAN], ids=lambda space: space.describe())
def test_the_family_of_a_space(space: Space) -> None:
    parameters = torch.randn(space.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(space.family(parameters).parameters, parameters)
    assert not space.family().parameters.any()
    drawn = space.family().sample(5, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, space.size)
    if space.kind != "gaussian":
        # The enumeration here and the family's own agree.
        assert torch.equal(outcomes(space), space.family().outcomes())
    with pytest.raises(UserError, match="expected parameters of shape"):
        space.family(parameters[:1])
