"""A page as PDF, printed by a browser: nothing else sets MathML and the page's own print style."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from layerlab.errors import UserError
from layerlab.lab.files import write_atomic

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
"""Looked for on the PATH, in this order."""
_SECONDS = 120


def find_browser() -> str:
    """The browser that prints.

    Returns:
        Its path.

    Raises:
        UserError: there is none.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise UserError(
            f"a PDF is printed by a browser, but none of {', '.join(BROWSERS)} is on the PATH; install Chromium, "
            "or leave pdf out and print report.html yourself"
        )
    return found


def print_pdf(page: str | Path, path: str | Path) -> Path:
    """Print the HTML file ``page`` into the PDF file ``path``, whole or not at all.

    Args:
        page: a page that `layerlab.lab.report.page.write` has written.
        path: the PDF file; its folder must exist.

    Returns:
        The path.

    Raises:
        UserError: no browser, or it prints nothing.
    """
    browser, path = find_browser(), Path(path)
    with tempfile.TemporaryDirectory(prefix="layerlab-") as folder:
        printed = Path(folder) / "page.pdf"
        # Chromium refuses to start its sandbox for root; the page's own policy lets no foreign script in.
        root = getattr(os, "geteuid", lambda: 1)() == 0
        command = [
            *(
                browser,
                "--headless",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ),
            *(
                "--disable-background-networking",
                "--no-pdf-header-footer",
                f"--user-data-dir={folder}/profile",
            ),
            *(["--no-sandbox"] if root else []),
            *(f"--print-to-pdf={printed}", Path(page).resolve().as_uri()),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise UserError(
                f"{browser} did not print {page} ({type(problem).__name__}); print it yourself"
            ) from problem
        if not printed.is_file() or not printed.read_bytes().startswith(b"%PDF"):
            raise UserError(f"{browser} (status {done.returncode}) did not print {page}; print it yourself")
        write_atomic(path, printed.read_bytes())
    return path
