"""Sheets of pictures on a page: the bytes that were given, escaped words, and what is refused."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from layerlab.errors import UserError
from layerlab.lab.report.page import Page, Section, Text, render
from layerlab.lab.report.pictures import Picture, Sheet, picture

RED = np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)


def sheet(**changes: object) -> Sheet:
    given = {
        "caption": "Worst <first>",
        "columns": ["image", "target"],
        "rows": [("a & b", [picture(RED, 'all "red"', "IoU <1"), None])],
        "key": [("#ff0000", "rose")],
    }
    return Sheet(**{**given, **changes})  # type: ignore[arg-type]


def shown(block: Sheet) -> str:
    return render(Page("Pictures", "", [Text("See [it](#sheet-1).")], [Section("S", "s", [block])]))


def test_a_sheet_holds_the_pictures_themselves_and_escapes_the_words() -> None:
    html = shown(sheet())
    (address,) = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="all &#34;red&#34;">', html)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(address)))), RED)
    for words in (
        "Worst &lt;first&gt;",
        "a &amp; b",
        "IoU &lt;1",
        'style="background: #ff0000"',
        'id="sheet-1"',
    ):
        assert words in html
    assert html.count("<td>") == 3, (
        "the corner, the picture, and an empty place for the picture that is not there"
    )


def test_large_pictures_shrink_and_keep_their_shape() -> None:
    made = picture(np.zeros((300, 600), dtype=np.uint8), "black", largest=100)
    assert Image.open(io.BytesIO(made.png)).size == (100, 50)
    small = picture(RED, "red", largest=100)
    assert Image.open(io.BytesIO(small.png)).size == (6, 4)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (sheet(columns=["image"]), "1 columns, but 'a & b' has 2"),
        (sheet(rows=[("a", [Picture(b"GIF89a", "x"), None])]), "a PNG file in the row 'a'"),
        (sheet(key=[("red", "rose")]), "'red'"),
        (sheet(key=[("#ff000;", "rose")]), "'#ff000;'"),
        (sheet(key=[("url(xy)", "rose")]), "url"),
    ],
)
def test_a_sheet_that_would_be_broken_is_refused(block: Sheet, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        shown(block)


@pytest.mark.parametrize(
    "pixels", [RED.astype(np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected uint8 pixels"):
        picture(pixels, "")
