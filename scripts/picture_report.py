"""Photograph the top of a report for the README: docs/images/report.png. Needs Chromium, and the extra [test].

make reproduce && .venv/bin/python scripts/picture_report.py reproduce/report.html
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLOURS = 64  # enough for drawings and text; the file is a third as large


def photographed(page: Path, width: int, height: int) -> Image.Image:
    """The first screen of a page, in light colours."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        view = window.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        view.goto(page.resolve().as_uri())
        picture = view.screenshot()
        window.close()
    return Image.open(io.BytesIO(picture))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, default=900)
    asked = parser.parse_args()
    picture = photographed(asked.report, asked.width, asked.height)
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
