"""A full disk and a place that cannot be written: one line, status 2, and nothing half-written, for every command."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlab.attention.linearize.candidates import Clock, Speed
from layerlab.lab.files import is_temporary

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
MADE: dict[str, Any] = {}
for module in ("fuzz_graphs", "fuzz_models", "fuzz_vectors", "fuzz_pictures"):
    MADE |= vars(importlib.import_module(module))
SMALL = "--size 16 --widths 2,2 --batch 2 --augment none --epochs 1"

# What makes the inputs, the command (which writes into "out"), and how many files it may write before the disk is full.
COMMANDS = {
    "graph train": ("_graph_folder", "graph train data --model sgc --epochs 2 --out out", (0, 1, 2)),
    "graph race": ("_graph_folder", "graph race data --models sgc --seeds 2 --jobs 1 --out out", (0, 1, 3)),
    "graph inspect": ("_edge_list", "graph inspect edges.csv --depth 2 --report --out out", (0, 1, 2)),
    "graph convert": (
        "_graph_folder",
        "graph convert data/edges.csv --nodes data/nodes.csv --out out",
        (0, 1, 4),
    ),
    "graph predict": ("_graph_run", "graph predict run data --out out", (0,)),
    "graph attention": ("_graph_run", "graph attention run data --report --out out", (0, 1, 2)),
    "model attention": (
        "_net",
        "model attention net.py:Net --inputs a.npz --budget 1 --report --out out",
        (0, 1, 2),
    ),
    "model inspect": (
        "_net",
        "model inspect net.py:model --input-shape 7,6 --budget 20 --no-remedy --report --out out",
        (0, 1, 2),
    ),
    "model linearize": (
        "_net",
        "model linearize net.py:Net --inputs a.npz --max-error 0.9 --mechanism linear --out out",
        (0, 1, 2),
    ),
    "estimator inspect": (
        "_function",
        "estimator inspect f.py:f --bits 4 --no-curve --report --out out",
        (0, 1, 2),
    ),
    "estimator optimise": (
        "_function",
        "estimator optimise f.py:f --bits 4 --budget 40 --out out --report",
        (0, 1, 2),
    ),
    "estimator policy": (
        "_function",
        "estimator policy CartPole-v1 --steps 100 --episodes 2 --hidden 2 --seeds 1 --jobs 1 --out out",
        (0, 1, 3),
    ),
    "codebook make": (
        "_function",
        "codebook make --dim 6 --count 9 --construction random-lines --out out.npz",
        (0,),
    ),
    "codebook inspect": ("_vectors", "codebook inspect rows.npy --report --out out", (0, 1, 2)),
    "codebook project": ("_vectors", "codebook project rows.npy --dim 3 --out out.npy", (0,)),
    "segment check": ("_pictures", "segment check images masks --report --out out", (0, 1, 2)),
    "segment train": ("_pictures", f"segment train images masks {SMALL} --threads 1 --out out", (0, 1, 2, 3)),
    "segment race": (
        "_pictures",
        f"segment race images masks {SMALL} --arms on --seeds 1 --jobs 1 --out out",
        (0, 1, 4),
    ),
    "segment predict": ("_segmented", "segment predict run images --out out", (0, 1, 2, 3, 5)),
    "reproduce": ("_function", "reproduce --only projection --seeds 2 --jobs 1 --out out", (0, 1)),
}


@pytest.fixture(autouse=True)
def swaps_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `model linearize` writes nothing, at five tokens."""
    monkeypatch.setattr(Clock, "speed", lambda self, name, call: Speed(name, 2.0, 4, 64))


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def make(maker: str) -> Path:
        MADE[maker](tmp_path)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_told_and_leaves_no_half_file(
    name: str, inputs: Callable[[str], Path], cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, command, moments = COMMANDS[name]
    folder = inputs(maker)
    fsync, isdir = os.fsync, lambda descriptor: os.path.isdir(f"/dev/fd/{descriptor}")  # noqa: PTH112
    for moment in moments:
        shutil.rmtree(folder / "out", ignore_errors=True)
        written = 0

        def full(descriptor: int, moment: int = moment) -> None:
            nonlocal written
            if not isdir(descriptor):
                written += 1
                if written > moment:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            done = cli(*command.split())
        assert done.status == 2, (moment, done)
        assert "No space left on device" in done.err
        assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1
        assert [path for path in folder.rglob("*") if is_temporary(path)] == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root can write")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    name: str, inputs: Callable[[str], Path], cli: Callable[..., Any]
) -> None:
    maker, command, _ = COMMANDS[name]
    inputs(maker)
    done = cli(*command.replace("--out out", "--out /proc/nothing/out").split())
    assert done.status == 2, done
    assert done.err.splitlines()[-1].startswith("error: ")
    assert "/proc/nothing" in done.err
