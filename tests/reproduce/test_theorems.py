"""Records of claims that were checked before: taken as they were written, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reproducing import TWO, Shown

from layerlab.catalogue import catalogue
from layerlab.claims import Register
from layerlab.errors import UserError
from layerlab.reproduce import reproduce, theorems

CELL, OTHER = "gradflow.product", "gradflow.attained"


def check_two_claims(out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theorems, "catalogue", lambda: Register(catalogue()[claim] for claim in (CELL, OTHER)))
        reproduce(out, display=Shown(), only=["gradflow"], amount=TWO, jobs=1)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reproduction of two claims."""
    out = tmp_path_factory.mktemp("checked") / "out"
    check_two_claims(out)
    return out


@pytest.fixture
def cell(checked: Path, tmp_path: Path) -> Path:
    """The record of one of them, in a copy."""
    shutil.copytree(checked, tmp_path / "out")
    (found,) = (tmp_path / "out/claims/cells").glob(f"{CELL}-*.json")
    return found


@pytest.mark.parametrize("content", ["", "half", "[1]", "\0\0"])
def test_a_record_that_was_cut_or_overwritten_is_told(cell: Path, content: str, tmp_path: Path) -> None:
    whole = cell.read_text()
    cell.write_text(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(UserError, match=rf"{cell.name}.*expected .*remove that file"):
        check_two_claims(tmp_path / "out")
    # The mend that it names is one.
    cell.unlink()
    check_two_claims(tmp_path / "out")
    assert cell.read_text() == whole


def _outcome(name: str, value: Any) -> Callable[[Any], object]:
    return lambda record: record["check"]["outcomes"][1].update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("checksum"),
        lambda record: record.pop("check"),
        lambda record: record.update(check=None),
        lambda record: record["check"].pop("outcomes"),
        lambda record: record["check"].update(as_expected=False),
        lambda record: record["check"].update(seed={}),
        _outcome("measured", 0.5),
        _outcome("measured", {}),
        _outcome("verdict", "hypotheses unmet"),
        _outcome("slack_reason", None),
    ],
)
def test_a_record_that_was_changed_is_told(
    cell: Path, change: Callable[[Any], object], tmp_path: Path
) -> None:
    record = json.loads(cell.read_text())
    change(record)
    cell.write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"{cell.name}.*changed since it was written; remove that file"):
        check_two_claims(tmp_path / "out")


def test_the_record_of_another_claim_is_told(cell: Path, tmp_path: Path) -> None:
    shutil.copy(cell.with_name(cell.name.replace(CELL, OTHER)), cell)
    with pytest.raises(UserError, match=rf"the record '{CELL}-\d+' is of contestant '{OTHER}'"):
        check_two_claims(tmp_path / "out")
