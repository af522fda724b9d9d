"""Inputs by shape, from a file, or from the model itself."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.gradflow.inspection.losses import cross_entropy, loss_of
from layerlab.lab.arrays import read_npz
from layerlab.lab.models.example_inputs import inferred
from layerlab.lab.models.input_file import read_inputs
from layerlab.lab.models.input_shapes import InputShape, drawn

REAL = torch.float32


class Forward(nn.Module):
    """forward(x, y)."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Anything(nn.Module):
    """forward(*args, **kwargs), as wrappers have it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


@pytest.mark.parametrize(
    ("text", "shape", "below", "mask", "name"),
    [
        ("32,3,8,8", (32, 3, 8, 8), None, False, None),
        (" 4 , 2 ", (4, 2), None, False, None),
        ("7", (7,), None, False, None),
        ("x=8,16", (8, 16), None, False, "x"),
        ("8,128:int100", (8, 128), 100, False, None),
        ("mask_2=8,16:bool", (8, 16), None, True, "mask_2"),
    ],
)
def test_spellings(
    text: str, shape: tuple[int, ...], below: int | None, mask: bool, name: str | None
) -> None:
    assert InputShape.parse(text) == InputShape(name, shape, below, mask)


@pytest.mark.parametrize(
    "text", ["", "8,", "8x3", "-1,3", "8,3:float", "8:int", "2x=3", "=3", "8,3:int0", "9" * 30]
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="input shape"):
        InputShape.parse(text)


def test_draws_are_seeded_and_as_said() -> None:
    shapes = [InputShape.parse(text) for text in ("x=50,4", "t=50,4:int3", "m=5:bool")]
    one, two, other = drawn(shapes, REAL, 0), drawn(shapes, REAL, 0), drawn(shapes, REAL, 1)
    assert isinstance(one, dict) and isinstance(two, dict) and isinstance(other, dict)
    assert (
        one["x"].dtype == REAL and torch.equal(one["x"], two["x"]) and not torch.equal(one["x"], other["x"])
    )
    assert set(one["t"].flatten().tolist()) == {0, 1, 2}
    assert one["m"].all() and one["m"].dtype == torch.bool


@pytest.mark.parametrize(
    ("names", "model", "by_name"),
    [
        (["x"], Forward(), ["x"]),
        (["anything"], Forward(), None),
        (["y", "x"], Forward(), ["y", "x"]),
        (["arr_1", "arr_0"], Forward(), None),
        (["arg0", "arg1"], Anything(), None),
        (["input_ids"], Anything(), ["input_ids"]),
    ],
)
def test_arrays_become_arguments(
    tmp_path: Path, names: list[str], model: nn.Module, by_name: list[str] | None
) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, **{name: np.full((2, 3), i + 0.5) for i, name in enumerate(names)})
    given, notes = read_inputs(path, model, REAL)
    assert len(notes) == len(names) and "from float64 to float32" in notes[0]
    if by_name is not None:
        assert isinstance(given, dict) and list(given) == by_name
    else:
        assert isinstance(given, tuple)
        # arr_1 came first in the file, and is the second argument.
        assert [float(t[0, 0]) for t in given] == ([1.5, 0.5] if names[0] == "arr_1" else [0.5, 1.5])[
            : len(names)
        ]


def test_names_that_fit_nothing_are_told(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, a=np.ones(2), b=np.ones(2))
    with pytest.raises(
        UserError, match=r"the arrays a, b, and forward takes x, y; name the arrays after these"
    ):
        read_inputs(path, Forward(), REAL)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones(2, np.float16), torch.float32),
        (np.ones(2, ">f8"), torch.float32),
        (np.ones(2, np.uint8), torch.int64),
        (np.ones(2, np.int64), torch.int64),
        (np.ones(2, np.bool_), torch.bool),
    ],
)
def test_kinds_of_numbers(tmp_path: Path, array: Any, dtype: torch.dtype) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, x=array)
    given, _ = read_inputs(path, Forward(), REAL)
    assert isinstance(given, dict) and given["x"].dtype == dtype and given["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array(["a"]), "is of dtype <U1"),
        (np.ones(2, np.complex64), "complex64"),
        (np.array([2**63 + 1], np.uint64), "beyond"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path: Path, array: Any, words: str) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, x=array)
    with pytest.raises(UserError, match=words):
        read_inputs(path, Forward(), REAL)


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, x=np.array([print], dtype=object))
    with pytest.raises(UserError, match=r"batch\.npz: expected an archive of plain arrays"):
        read_npz(path)


def test_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match="more than"):
        read_npz(path, largest=7_000_000)
    assert read_npz(path, largest=8_000_200)["x"].shape == (1_000_000,)
    # A header that announces more than the file has.
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1)) | {"shape": (1 << 40,)}
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(UserError, match="more than"):
        read_npz(path)


@pytest.mark.parametrize("cut", [10, 60, 150])
def test_damaged_archives(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, x=np.ones(9))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match="damaged or something else"):
        read_npz(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_npz(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("layer", "shape", "below"),
    [
        (nn.Linear(3, 2), (16, 3), None),
        (nn.Embedding(7, 2), (4, 16), 7),
        (nn.GRU(3, 2, batch_first=True), (4, 16, 3), None),
        (nn.GRU(3, 2), (16, 4, 3), None),
    ],
)
def test_the_first_layer_tells_the_shape(layer: nn.Module, shape: tuple[int, ...], below: int | None) -> None:
    found, _ = inferred(nn.Sequential(nn.LayerNorm(4), layer))
    assert found == InputShape(None, shape, below)


def test_classes_are_where_they_are() -> None:
    """The loss is least for logits that favour the drawn classes along the dimension of classes."""
    for shape, dim in (((6, 4), 1), ((2, 3, 4), 2), ((2, 4, 3, 3), 1)):
        logits = torch.zeros(shape, requires_grad=True)
        (gradient,) = torch.autograd.grad(cross_entropy(0)(logits), logits)
        # Of each place exactly one class is pulled up.
        assert torch.equal((gradient < 0).sum(dim), torch.ones_like(gradient.sum(dim), dtype=torch.int64))


def test_a_loss_that_knows_nothing_of_the_output(tmp_path: Path) -> None:
    file = tmp_path / "losses.py"
    file.write_text(
        "import torch\ndef lost(y): return torch.ones(())\ndef nan(y): return y.sum() * float('nan')\n"
    )
    y = torch.ones(2, requires_grad=True)
    for name, words in (("lost", "does not depend"), ("nan", "is nan at this output")):
        with pytest.raises(UserError, match=words):
            loss_of(f"{file}:{name}", 0)[0](y)
