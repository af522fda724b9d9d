"""Weights on disk: whole or not at all, and into no other model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.weights import load_weights, misfit, read_tensors, write_tensors


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def test_weights_go_to_the_file_and_back_bit_by_bit(tmp_path: Path) -> None:
    there, back = model(0), model(1)
    there[1].num_batches_tracked += 7  # type: ignore[operator,index]
    assert not same(state(there), state(back))
    write_tensors(tmp_path / "w", there.state_dict())
    load_weights(back, tmp_path / "w")
    assert same(state(there), state(back))
    assert [file.name for file in tmp_path.iterdir()] == ["w"]


def test_views_shared_memory_scalars_and_a_header_are_kept(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "whole": whole,
        "again": whole,
        "transposed": whole.T,
        "column": whole[:, 1],
        "scalar": torch.tensor(3.0, dtype=torch.float64),
        "empty": torch.zeros(0, 2),
        "count": torch.tensor(5),
        "trained": nn.Parameter(torch.ones(2)),
    }
    write_tensors(tmp_path / "w", tensors, {"a": "ü\n\0"})
    found, header = read_tensors(tmp_path / "w", "mend it")
    assert same(found, {name: value.detach() for name, value in tensors.items()})
    assert header == {"a": "ü\n\0"}
    write_tensors(tmp_path / "w", tensors)
    assert read_tensors(tmp_path / "w", "mend it")[1] == {}


def test_what_was_read_outlives_the_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w", {"a": torch.full((50_000,), 2.0)})
    found, _ = read_tensors(tmp_path / "w", "mend it")
    size = (tmp_path / "w").stat().st_size
    # In place: the pages of the file change under whoever still looks at them.
    (tmp_path / "w").write_bytes(b"\0" * size)
    assert float(found["a"].sum()) == 100_000.0


@pytest.mark.parametrize(
    ("tensors", "difference"),
    [
        ({"0.bias": None}, "'0.bias' should be float32 2, is absent"),
        ({"0.extra": torch.ones(1)}, "'0.extra' should be absent, is float32 1"),
        ({"0.weight": torch.ones(2, 4)}, "'0.weight' should be float32 2 x 3, is float32 2 x 4"),
        ({"0.weight": torch.ones(3, 2)}, "'0.weight' should be float32 2 x 3, is float32 3 x 2"),
        ({"0.weight": torch.ones(6)}, "'0.weight' should be float32 2 x 3, is float32 6"),
        ({"0.bias": torch.ones(2).half()}, "'0.bias' should be float32 2, is float16 2"),
        ({"0.bias": torch.ones(2).double()}, "'0.bias' should be float32 2, is float64 2"),
        ({"1.num_batches_tracked": torch.ones(())}, "should be int64 scalar, is float32 scalar"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_models_weights_are_refused_and_the_model_stays(
    tmp_path: Path, tensors: dict[str, Any], difference: str
) -> None:
    changed = {name: value for name, value in {**state(model(0)), **tensors}.items() if value is not None}
    write_tensors(tmp_path / "w", changed)
    target = model(1)
    before = state(target)
    with pytest.raises(UserError) as caught:
        load_weights(target, tmp_path / "w")
    assert str(caught.value).startswith(f"{tmp_path / 'w'}: weights of another model: ")
    assert difference in str(caught.value)
    assert str(caught.value).endswith("; train again")
    assert same(state(target), before)


def test_the_first_difference_by_name_is_told() -> None:
    expected = {"b": torch.ones(1), "a": torch.ones(2)}
    assert misfit(expected, dict(expected)) is None
    assert misfit(expected, {}) == "'a' should be float32 2, is absent"
    assert misfit({}, {"z": torch.tensor(1.0)}) == "'z' should be absent, is float32 scalar"


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04cposix\nsystem\n.", b"PK\x03\x04" + bytes(60)])
def test_damaged_weights_are_one_line_with_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=r"w: cannot be read .*; train again$"):
        load_weights(model(), tmp_path / "w")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_truncated_weights_are_refused(tmp_path: Path, kept: float) -> None:
    write_tensors(tmp_path / "w", model().state_dict())
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"w: cannot be read .*; train again$"):
        load_weights(model(), tmp_path / "w")


def test_missing_weights_a_folder_and_an_impossible_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"w: the weights are missing; train again$"):
        load_weights(model(), tmp_path / "w")
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(model(), tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(model(), tmp_path / ("w" * 300))
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "w", "mend it")


def test_a_pickled_file_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"0.weight": Hostile()}, tmp_path / "w")
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(model(), tmp_path / "w")
    assert not (tmp_path / "ran").exists()


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tensors(tmp_path / "w", {"a": torch.ones(2)})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"w: cannot be written \(No space left on device\)"):
            write_tensors(tmp_path / "w", {"a": torch.zeros(2)})
    assert [file.name for file in tmp_path.iterdir()] == ["w"]
    assert load_file(tmp_path / "w")["a"].tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match="cannot be written"):
        write_tensors(tmp_path / "missing" / "w", {"a": torch.zeros(2)})
