"""Pictures on a page: small images side by side, as PNG inside the HTML, a row for each thing shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A raster image.

    Args:
        png: the bytes of a PNG file.
        alt: what it shows, in words, for those who do not see it.
        note: a few words below it.
    """

    png: bytes
    alt: str
    note: str = ""

    @property
    def address(self) -> str:
        """The bytes as the address of an image element."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Sheet:
    """Pictures in rows and columns.

    Args:
        caption: what to see in it, with the marks of `layerlab.lab.report.page`.
        columns: what the pictures of a column are.
        rows: for each row its name and a picture for every column; None leaves a place empty.
        key: colour, as ``#rrggbb``, and what it stands for.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Picture | None]]]
    key: Sequence[tuple[str, str]] = ()
    block: ClassVar[str] = "sheet"


def check_sheet(sheet: Sheet) -> None:
    """Refuse a sheet that cannot be shown.

    Raises:
        UserError: a row that does not fit the columns, a picture that is no PNG, or a colour that is none.
    """
    for name, pictures in sheet.rows:
        if len(pictures) != len(sheet.columns):
            raise UserError(
                f"the sheet {sheet.caption!r} has {len(sheet.columns)} columns, "
                f"but {name!r} has {len(pictures)} pictures"
            )
        for picture in pictures:
            if picture is not None and not picture.png.startswith(_PNG):
                raise UserError(
                    f"expected the bytes of a PNG file in the row {name!r}; write them with report.pictures.picture"
                )
    for colour, _ in sheet.key:
        if len(colour) != 7 or colour[0] != "#" or not set(colour[1:]) <= set("0123456789abcdef"):
            raise UserError(f"expected a colour such as #1a2b3c, got {colour!r}")


def picture(pixels: NDArray[np.uint8], alt: str, note: str = "", *, largest: int = 512) -> Picture:
    """A `Picture` of pixels, made smaller where it is larger than a page shows.

    Args:
        pixels: ``(height, width)`` grey or ``(height, width, 3)`` RGB, uint8.
        alt: what it shows, in words.
        note: a few words below it.
        largest: pixels of the longer side on the page.

    Raises:
        UserError: another shape or type, or no pixels.

    >>> picture(np.zeros((2, 3), dtype=np.uint8), "black").png[1:4]
    b'PNG'
    """
    from PIL import Image

    shown = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not shown or pixels.dtype != np.uint8 or pixels.size == 0:
        raise UserError(
            f"expected uint8 pixels (height, width) or (height, width, 3), got {pixels.dtype} {pixels.shape}"
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > largest:
        image.thumbnail((largest, largest))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return Picture(file.getvalue(), alt, note)
