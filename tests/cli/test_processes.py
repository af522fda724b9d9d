"""``--processes`` and torchrun on the command line: one voice, one folder, the numbers of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlab.lab import launching

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
OPTIONS = ("--epochs", "3", "--batch-size", "5", "--fanout", "3,2", "--dropout", "0", "--json")
Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlab.lab.machine.available_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def expect_as_alone(cli: Cli, tmp_path: Path, out: str) -> None:
    """That the output is the record of one run, with the numbers of a single process."""
    together = json.loads(out)
    alone = json.loads(cli("graph", "train", CLUB, *OPTIONS, "--out", tmp_path / "alone").out)
    assert together["processes"] == 2
    assert "processes" not in alone
    for name, value in alone["metrics"].items():
        assert together["metrics"][name] == pytest.approx(value, rel=1e-4), name


def test_processes_train_what_one_does(cli: Cli, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    result = cli("graph", "train", CLUB, *OPTIONS, "--out", folder, "--processes", 2)
    assert result.status == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    expect_as_alone(cli, tmp_path, shown.out)
    assert {path.name for path in folder.iterdir()} == {"run.json", "model.safetensors"}
    command = json.loads((folder / "run.json").read_text())["command"]
    assert command.startswith("layerlab graph train")


def test_torchrun_starts_it_too(cli: Cli, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "layerlab"]
    command = [
        sys.executable,
        *torchrun,
        "graph",
        "train",
        str(CLUB),
        *OPTIONS,
        "--out",
        str(tmp_path / "run"),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0, shown.stderr
    expect_as_alone(cli, tmp_path, shown.stdout)


def test_an_error_in_the_processes_is_said_once(
    cli: Cli, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = cli("graph", "train", CLUB, "--batch-size", 1, "--processes", 2, "--out", tmp_path / "run")
    assert result.status == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: expected at most as many processes as nodes in a batch, 1, got 2")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "count", "said"),
    [
        ({}, 3, "expected at most one process for each of 2 cores, got --processes 3"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 1, "expected MASTER_ADDR, MASTER_PORT beside what torchrun sets"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            2,
            "torchrun has started several processes already",
        ),
    ],
)
def test_what_cannot_be_started_is_one_line(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    count: int,
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launching, "launch", lambda *_: pytest.fail("nothing is to be started"))
    result = cli("graph", "train", CLUB, "--processes", count, "--out", tmp_path / "run")
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()


def test_ctrl_c_is_one_message(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "launch", lambda *_: 130)
    result = cli("graph", "train", CLUB, "--processes", 2, "--out", tmp_path / "run")
    assert result.status == 130
    assert [line for line in result.err.splitlines() if line] == [
        f"interrupted; what was trained is in {tmp_path / 'run'}: run the same command to go on"
    ]
