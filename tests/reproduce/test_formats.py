"""The report in the forms that were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.lab.report.page import Page
from layerlab.reproduce import formats


def test_html_always_and_the_others_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = []
    monkeypatch.setattr(formats, "print_pdf", lambda page, path: printed.append((page.name, path.name)))
    page, summary = Page("T", "", [], []), {"of": 3, "said": "−1"}
    assert formats.write_report(page, tmp_path, summary, ()) == tmp_path / "report.html"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"] and not printed
    formats.write_report(page, tmp_path, summary, ("json", "md", "pdf"))
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == summary
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == "# T\n"
    assert printed == [("report.html", "report.pdf")]


def test_json_is_strict_whatever_was_measured(tmp_path: Path) -> None:
    summary = {"mean": float("nan"), "high": float("inf"), "file": "\udcff"}
    formats.write_report(Page("T", "", [], []), tmp_path, summary, ("json",))
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"mean": None, "high": None, "file": "?"}


def test_what_could_not_be_written_is_refused_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    formats.check_formats(["html", "md", "json"])
    with pytest.raises(UserError, match="unknown format 'docx'; expected some of html,md,json,pdf"):
        formats.check_formats(["html", "docx"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="printed by a browser"):
        formats.check_formats(["pdf"])
