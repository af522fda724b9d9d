"""How much memory is free: the machine's, or what a container leaves of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlab.lab import memory


def test_memory_is_known_here() -> None:
    free = memory.available()
    assert free is not None
    assert 10**6 < free < 10**15


@pytest.mark.parametrize(("limit", "left"), [("1000000", 400_000), ("300000", 0)])
def test_a_containers_limit_counts_without_what_can_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, left: int
) -> None:
    for name, text in (
        ("max", limit),
        ("current", "700000"),
        ("stat", "anon 600000\ninactive_file 100000\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text, encoding="utf-8")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available() == left


def test_a_container_without_a_limit_is_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("max", "max"), ("current", "1"), ("stat", "")):
        (tmp_path / f"memory.{name}").write_text(text, encoding="utf-8")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available() == pytest.approx(memory._of_machine(), rel=0.2)
