"""Section 4: the race of skip connections as a chapter, by tiny networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reproducing import TWO, Shown, words

from layerlab.catalogue import catalogue
from layerlab.claims import Register
from layerlab.reproduce import QUICK, reproduce, theorems
from layerlab.reproduce import segmentation as skips
from layerlab.segmentation.digits import Digits


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Shown]:
    """The chapter of skip connections by a tiny race."""
    shown = Shown()
    with pytest.MonkeyPatch.context() as patch:
        small = replace(skips.BUILT_IN, widths=(2, 4), size=16, epochs=1)
        patch.setattr(skips, "BUILT_IN", small)
        patch.setattr(skips, "Digits", lambda size: Digits(20, size))
        patch.setattr(theorems, "catalogue", lambda: Register([catalogue()["segmentation.zero-control"]]))
        page, summary = reproduce(
            tmp_path_factory.mktemp("skips") / "out",
            display=shown,
            only=["segmentation"],
            amount=TWO,
            jobs=1,
        )
    return words(page.read_text(encoding="utf-8")), summary, shown


def test_the_race_of_skip_connections_is_a_chapter(raced: tuple[str, dict[str, Any], Shown]) -> None:
    text, summary, shown = raced
    assert shown.steps == [("claims", 1, 1), ("U-Nets on digits", 3, 2)]
    assert sorted(shown.cells) == [(arm, seed) for arm in ("off", "on", "zero") for seed in (0, 1)]
    findings = {finding["id"]: finding for finding in summary["findings"]}
    assert list(findings) == ["experiment.skips", "experiment.skips-gradient", "segmentation.zero-control"]
    found = findings["experiment.skips"]
    low, high = found["detail"]["low"], found["detail"]["high"]
    assert found["verdict"] == ("holds" if low > 0 else "refuted" if high < 0 else "measured")
    assert found["document"].startswith("about 0.78 and 0.68")
    command = "layerlab segment race digits --arms on,off,zero --seeds 2"
    assert found["command"] == command and command in text
    assert "zero control" in text and "boundary IoU" in text


def test_a_quick_look_has_one_seed_and_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "SMALL", replace(skips.SMALL, widths=(2, 4), size=16, epochs=1))
    monkeypatch.setattr(skips, "Digits", lambda size: Digits(20, size))
    monkeypatch.setattr(theorems, "catalogue", lambda: Register([catalogue()["segmentation.zero-control"]]))
    _, summary = reproduce(tmp_path / "out", display=Shown(), only=["segmentation"], amount=QUICK, jobs=1)
    found = summary["findings"][0]
    assert (found["verdict"], found["measured"].endswith("one seed tells no interval")) == ("measured", True)
    assert found["command"].endswith("--arms on,off --seeds 1 --epochs 1")
