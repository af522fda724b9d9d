"""Workers that are forked from a process which has imported what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: what was begun once serves as long as the process lives.
SCRIPT = """
import os, sys
from layerlab.lab.preloading import import_ahead, start_method
from layerlab.lab.race import race

def cell(name, seed):
    return {"metrics": {"there": float("nturl2path" in sys.modules), "parent": float(os.getppid())}}

if __name__ == "__main__":
    import_ahead(["no_such_module", "nturl2path"])
    import_ahead(["nothing_happens_now"])
    cells = race(cell, ["a"], [0, 1], jobs=2)
    other = {found["metrics"]["parent"] != os.getpid() for found in cells.values()}
    print(start_method(), {found["metrics"]["there"] for found in cells.values()}, other)
"""


def test_workers_find_imported_what_was_asked_for(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("workers are forked on Linux only")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False
    )
    # Which returns when all that held its output has ended: no process is left.
    assert (done.stderr, done.stdout) == ("", "forkserver {1.0} {True}\n")


def test_without_it_workers_are_started_from_nothing() -> None:
    code = "from layerlab.lab.preloading import start_method; print(start_method())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "spawn\n"
