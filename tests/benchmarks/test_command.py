"""What all benchmarks share: parts are stored one by one, and nothing is timed when the gate stops."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from layerlab.errors import UserError


@pytest.fixture(scope="module")
def command() -> ModuleType:
    return importlib.import_module("bench_common.command")


@pytest.fixture
def run(command: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs a benchmark of four parts: returns the exit status, what is stored, and what was called."""

    def call(*options: str, **raised: Exception) -> tuple[int, dict[str, Any], list[str]]:
        called: list[str] = []

        def part(name: str) -> Callable[[bool, int], dict[str, Any]]:
            def measure(quick: bool, threads: int) -> dict[str, Any]:
                called.append(name)
                if name in raised:
                    raise raised[name]
                return {"value": name, "asked": [quick, threads]}

            return measure

        def page(stored: dict[str, Any], folder: Path) -> None:
            called.append(f"page of {', '.join(stored['parts'])} in {folder.name}")

        parts = {name: part(name) for name in ("fast", "gate", "slow", "data")}
        benchmark = command.Benchmark(
            "graph", "words", parts, page, str, first=("gate",), named=("slow",), optional=("data",)
        )
        results = tmp_path / "found.json"
        monkeypatch.setattr(sys, "argv", ["graph.py", "--threads", "1", *options, "--results", str(results)])
        status = command.main(benchmark)
        stored = json.loads(results.read_text(encoding="utf-8"))["parts"] if results.exists() else {}
        return status, stored, called

    return call


def test_the_gate_comes_first_whatever_is_named(run: Callable[..., Any], tmp_path: Path) -> None:
    status, stored, called = run("--only", "slow,fast")
    assert (status, called[:3]) == (0, ["gate", "slow", "fast"])
    assert called[3] == f"page of gate, slow, fast in {tmp_path.name}"
    assert stored["fast"]["asked"] == [False, 1]
    assert stored["fast"]["environment"]["threads"] == 1
    # What is there stays, and is not measured for the page alone.
    status, stored, called = run("--docs")
    assert (status, called) == (0, [f"page of gate, slow, fast in {tmp_path.name}"])


def test_a_smoke_run_leaves_out_what_takes_long(run: Callable[..., Any]) -> None:
    _, stored, called = run("--quick")
    assert called[:-1] == ["gate", "fast", "data"]
    assert stored["data"]["asked"] == [True, 1]


def test_nothing_is_timed_when_the_gate_stops(run: Callable[..., Any], command: ModuleType) -> None:
    assert run(gate=command.GateError("x differs")) == (1, {}, ["gate"])


def test_what_may_be_missing_is_left_out_and_said(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    status, stored, _ = run(data=UserError("not fetched"))
    assert (status, list(stored)) == (0, ["gate", "fast", "slow"])
    assert "data left out: not fetched" in capsys.readouterr().err


def test_another_error_of_a_part_ends_the_run(run: Callable[..., Any]) -> None:
    status, stored, _ = run(slow=UserError("wrong"))
    assert (status, list(stored)) == (2, ["gate", "fast"])


@pytest.mark.parametrize("options", [["--only", "fast,other"], ["--threads", "0"]])
def test_wrong_options_are_refused(run: Callable[..., Any], options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*options)
    assert caught.value.code == 2


def test_options_of_its_own_and_parts_that_run_only_where_they_are_named(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: list[str] = []

    def part(name: str) -> Callable[[bool, int], dict[str, Any]]:
        return lambda quick, threads: called.append(name) or {}  # type: ignore[func-returns-value]

    benchmark = command.Benchmark(
        *("graph", "words", {name: part(name) for name in ("often", "rare")}, lambda *given: None, str),
        asked=("rare",),
        options=lambda parser: parser.add_argument("--work", default="here"),
        begin=lambda given: called.append(f"in {given.work}"),
    )
    for options in ([], ["--work", "there", "--only", "rare"], ["--docs"]):
        given = ["graph.py", "--threads", "1", *options, "--results", str(tmp_path / "found.json")]
        monkeypatch.setattr(sys, "argv", given)
        assert command.main(benchmark) == 0
    assert called == ["in here", "often", "in there", "rare"]
