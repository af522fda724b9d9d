"""The examples run as they are, and show what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_monitor_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    monkeypatch.setattr("sys.argv", ["monitor_training.py", str(page)])
    runpy.run_path(str(EXAMPLES / "monitor_training.py"), run_name="__main__")
    said = capsys.readouterr().out
    first, last = (float(word) for word in said.replace(",", " ").split() if "e-" in word)
    assert first < 1e-6 * last  # the gradient vanishes, as the example says
    assert "<figure" in page.read_text(encoding="utf-8")
