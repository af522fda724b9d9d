"""The report in other forms than HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.files import write_atomic
from layerlab.lab.json_files import write_json
from layerlab.lab.report.markdown import markdown
from layerlab.lab.report.page import Page, write
from layerlab.lab.report.pdf import find_browser, print_pdf

FORMATS = ("html", "md", "json", "pdf")


def check_formats(formats: Sequence[str]) -> None:
    """Refuse, before anything runs, what could not be written after it.

    Raises:
        UserError: an unknown format, or pdf without a browser.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"unknown format {unknown[0]!r}; expected some of {','.join(FORMATS)}")
    if "pdf" in formats:
        find_browser()


def write_report(page: Page, folder: Path, summary: Mapping[str, Any], formats: Sequence[str]) -> Path:
    """Write ``report.html``, which is always there, and ``report.md``, ``.json``, ``.pdf`` as asked.

    Args:
        page: the report.
        folder: the folder of the reproduction.
        summary: what ``report.json`` holds.
        formats: some of `FORMATS`.

    Returns:
        The HTML file.

    Raises:
        UserError: a file cannot be written, or the browser does not print.
    """
    html = write(page, folder / "report.html")
    if "md" in formats:
        write_atomic(folder / "report.md", markdown(page).encode("utf-8", errors="replace"))
    if "json" in formats:
        write_json(folder / "report.json", summary)
    if "pdf" in formats:
        print_pdf(html, folder / "report.pdf")
    return html
