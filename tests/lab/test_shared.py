"""Whether several machines see one run folder, asked with executors that see more or less."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from layerlab.errors import UserError
from layerlab.lab.shared import check_shared


class Seeing:
    """Another machine, after what happens to the files on the way to it."""

    def __init__(self, place: Path, happens: Callable[[Path], object] = lambda mark: None) -> None:
        self.place, self.happens, self.asked = place, happens, 0

    def check(self, look: Callable[[], object]) -> None:
        self.asked += 1
        (mark,) = [entry for entry in self.place.iterdir() if entry.is_file()]
        self.happens(mark)
        pickle.loads(pickle.dumps(look))()

    def run(self, run_cell: Any, cells: Any) -> Generator[Any, None, None]:
        yield from ()


def test_a_folder_that_is_shared_passes_and_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for place, folder in ((tmp_path, tmp_path / "runs" / "race"), (made, made)):
        workers = Seeing(place)
        check_shared(workers, folder)
        assert workers.asked == 1
    monkeypatch.chdir(made)
    check_shared(Seeing(made), Path("runs"))
    assert list(tmp_path.rglob("*")) == [made]


@pytest.mark.parametrize("written", ["another", ""])
def test_another_folder_at_the_same_path_is_told(tmp_path: Path, written: str) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} is another folder here; give an --out in a folder"):
        check_shared(Seeing(tmp_path, lambda mark: mark.write_text(written)), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="is another folder here"):
        check_shared(Seeing(tmp_path, lambda mark: tmp_path.rename(f"{tmp_path}-away")), tmp_path / "run")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_can_be_written_the_run_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    workers = Seeing(tmp_path)
    check_shared(workers, tmp_path / "run")
    assert workers.asked == 0
