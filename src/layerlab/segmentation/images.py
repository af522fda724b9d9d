"""Reading one picture file: a bad one is told in a sentence, a hostile one costs no more memory than stated.

PNG, JPEG, TIFF and BMP; 8 or 16 bits; grey, RGB or palette; one picture a file. Which of them a file is, its first
bytes say and not its name.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Image, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from layerlab.errors import UserError

LARGEST_BYTES = 2**30
"""A picture that takes more than this (1 GiB) as height x width x channels is refused before it is decoded; decoding
one takes at most 2.5 times its size."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""What names of pictures end in, those that are refused by name included."""

# The classes themselves and not PIL.Image.open, whose limit on pixels is a setting of the whole process, warns at
# 9459 x 9459, and would let formats in that nobody tests here.
_FORMATS: tuple[tuple[bytes, str, Callable[[IO[bytes]], ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"II*\x00", "TIFF", TiffImageFile),
    (b"MM\x00*", "TIFF", TiffImageFile),
    (b"II+\x00", "TIFF", TiffImageFile),
    (b"MM\x00+", "TIFF", TiffImageFile),
    (b"BM", "BMP", BmpImageFile),
)
_FOREIGN = {
    b"GIF8": "a GIF",
    b"RIFF": "a WebP",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
    b"<svg": "an SVG drawing",
    b"version https": "a Git LFS pointer",
}
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# What decoders raise on bytes that are not what they expect (found by damaging files at random).
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)
_STRIPE = 2**22  # pixels that are copied at a time


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself before it is decoded.

    Attributes:
        height, width: in pixels, as it is to be looked at (EXIF orientation applied).
        format: "PNG", "JPEG", "TIFF" or "BMP".
        kind: "grey", "RGB" or "palette".
        bits: of a channel: 8, 16 or (label images only) 32.
        turned: whether the EXIF orientation turns or mirrors what is stored.
    """

    height: int
    width: int
    format: str
    kind: str
    bits: int
    turned: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: ``(height, width, channels)``, uint8 or uint16; one channel for grey, three for RGB. Of label images
            with indices: one channel, and up to 32 bits.
        header: of its file.
        notes: what was done to it that its owner may not expect.
        palette: ``(n, 3)`` uint8, the colours of a palette of which ``pixels`` are the indices; None otherwise.
    """

    pixels: NDArray[Any]
    header: Header
    notes: tuple[str, ...] = ()
    palette: NDArray[np.uint8] | None = None


def read_header(path: str | Path) -> Header:
    """Size and kind of a picture, from the first bytes of its file.

    Raises:
        UserError: no such file, not a picture that can be read here, or larger than `LARGEST_BYTES`.
    """
    with _opened(Path(path)) as (image, name):
        return _header(image, name, Path(path))


def read_image(path: str | Path) -> Picture:
    """Decode a photograph: grey or RGB, palettes resolved, turned as its EXIF orientation says, alpha left out.

    Args:
        path: PNG, JPEG, TIFF or BMP, 8 or 16 bits. (16-bit RGB needs tifffile for TIFF; from PNG its upper 8 bits
            are read, which is noted.)

    Raises:
        UserError: no such file, damaged, truncated, several pictures in one, CMYK, floating point, or larger than
            `LARGEST_BYTES`.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGBA", (4, 3), "red").save(Path(folder) / "a.png")
    ...     picture = read_image(Path(folder) / "a.png")
    >>> picture.pixels.shape, picture.notes
    ((3, 4, 3), ('its alpha channel is left out',))
    """
    return _read(Path(path), labels=False)


def read_labels(path: str | Path) -> Picture:
    """Decode a label image: palettes stay indices, whole numbers up to 32 bits stay what they are.

    Raises:
        UserError: as `read_image`.
    """
    return _read(Path(path), labels=True)


def fractions(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels of 8 or 16 bits as float32 in [0, 1].

    >>> fractions(np.array([0, 255], np.uint8)), fractions(np.array([65535], np.uint16))
    (array([0., 1.], dtype=float32), array([1.], dtype=float32))
    """
    return np.multiply(pixels, np.float32(1 / np.iinfo(pixels.dtype).max), dtype=np.float32)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ImageFile, str]]:
    """The picture's decoder, and every way in which files are bad as a `UserError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # Opening a pipe would wait for ever.
            raise UserError("expected a picture, got something that is not a file", file=path)
        with path.open("rb") as stream:
            name, decoder = _recognised(stream.read(16), path)
            stream.seek(0)
            yield decoder(stream), name
    except UserError:
        raise
    except FileNotFoundError as error:
        mend = "is a link to a file that is not there" if path.is_symlink() else "there is no such file"
        raise UserError(f"{mend}; check the path", file=path) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot be read ({error.strerror}); check its permissions", file=path) from error
        said = str(error) or type(error).__name__
        raise UserError(
            f"expected a picture, but the file is damaged ({said}); save it again", file=path
        ) from error
    except MemoryError as error:
        raise UserError("expected a picture that fits in memory; make it smaller", file=path) from error


def _recognised(first: bytes, path: Path) -> tuple[str, Callable[[IO[bytes]], ImageFile]]:
    for signature, name, decoder in _FORMATS:
        if first.startswith(signature):
            return name, decoder
    if not first:
        raise UserError("expected a picture, got an empty file", file=path)
    got = next((what for start, what in _FOREIGN.items() if first.startswith(start)), None)
    if first[4:8] == b"ftyp":
        got = "a HEIC, AVIF or video file"
    raise UserError(
        f"expected a PNG, JPEG, TIFF or BMP, got {got or 'something else'}; convert it to PNG", file=path
    )


def _header(image: ImageFile, name: str, path: Path) -> Header:
    mode, (width, height) = image.mode, image.size
    bits = _bits(image)
    taken = width * height * len(image.getbands()) * bits // 8
    if taken > LARGEST_BYTES:
        raise UserError(
            f"expected a picture of at most {LARGEST_BYTES / 2**20:,.0f} MiB when decoded, got {width:,} x {height:,} "
            f"pixels, {taken / 2**20:,.0f} MiB; cut it into pieces",
            file=path,
        )
    if _has_more(image):
        several = "pages" if name == "TIFF" else "frames"
        raise UserError(
            f"expected one picture, got several ({several}); save the one you mean as a file of its own",
            file=path,
        )
    if mode in ("CMYK", "LAB", "HSV"):
        raise UserError(
            f"expected grey or RGB, got {mode}, whose colours depend on a printer's profile; convert it to RGB",
            file=path,
        )
    if mode == "F":
        raise UserError(
            "expected whole numbers of 8 or 16 bits, got floating point, whose range nobody knows; convert it",
            file=path,
        )
    kind = "palette" if mode in ("P", "PA") else "grey" if mode[0] in "1LI" else "RGB"
    turned = _orientation(image) != 1
    # Pillow's TIFF reader tells the size after turning, its other readers before.
    if name != "TIFF" and _orientation(image) >= 5:
        width, height = height, width
    return Header(height, width, name, kind, bits, turned)


def _bits(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        stored = image.tag_v2.get(258, (1,))
        return max(8, *(int(bits) for bits in stored))
    return 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8


def _orientation(image: ImageFile) -> int:
    if isinstance(image, PngImageFile) and "exif" not in image.info:
        # Pillow would decode the whole picture to see whether tags follow it.
        return 1
    found = image.getexif().get(_EXIF_ORIENTATION, 1)
    return found if found in _TURNS else 1


def _has_more(image: ImageFile) -> bool:
    """Whether a second picture follows; does not count them, which a file could make endless."""
    if isinstance(image, TiffImageFile):
        try:
            image.seek(1)
        except EOFError:
            return False
        return True
    return bool(getattr(image, "is_animated", False))


def _read(path: Path, *, labels: bool) -> Picture:
    with _opened(path) as (image, name):
        header = _header(image, name, path)
        notes = []
        if isinstance(image, TiffImageFile):
            image.seek(0)
            if header.bits == 16 and header.kind == "RGB":
                return Picture(_deep_tiff(path, header), header)
        elif name == "PNG" and header.kind == "RGB" and _is_deep_png(path):
            notes.append("of its 16 bits a channel the upper 8 are read; save it as TIFF to keep them")
        if header.bits == 32 and not labels:
            raise UserError("expected 8 or 16 bits a channel, got 32; convert it", file=path)
        if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
            notes.append("its alpha channel is left out")
        image.load()
        # TIFF is turned by its decoder.
        turn = None if name == "TIFF" else _TURNS[_orientation(image)]
        turned: Image = image if turn is None else image.transpose(turn)
        if header.turned:
            notes.append("turned as its EXIF orientation says")
        if labels and header.kind == "palette":
            indices = turned.getchannel(0) if turned.mode == "PA" else turned
            colours = np.frombuffer(bytes(turned.getpalette("RGB") or b""), np.uint8).reshape(-1, 3)
            return Picture(_array(indices), header, tuple(notes), colours)
        return Picture(_array(_plain(turned, header)), header, tuple(notes))


def _plain(image: Image, header: Header) -> Image:
    """The picture in one of the modes L, I;16, I and RGB."""
    if header.kind == "grey" and header.bits > 8:
        return image
    if header.kind == "palette":
        # By way of RGBA: a palette with transparency in bytes cannot go straight.
        return image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")
    wanted = "L" if header.kind == "grey" else "RGB"
    if image.mode == wanted:
        return image
    if image.mode in ("LA", "La"):
        return image.getchannel(0)
    return image.convert(wanted)


def _array(image: Image) -> NDArray[Any]:
    """Pixels ``(height, width, channels)``, copied stripe by stripe: Pillow's own way makes two more copies."""
    width, height = image.size
    rows = max(1, _STRIPE // width)
    if rows >= height:
        return _native(np.array(image))
    first = _stripe(image, 0, rows)
    pixels = np.empty((height, width, first.shape[2]), first.dtype)
    pixels[:rows] = first
    for top in range(rows, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _stripe(image, top, bottom)
    return pixels


def _stripe(image: Image, top: int, bottom: int) -> NDArray[Any]:
    return _native(np.array(image.crop((0, top, image.width, bottom))))


def _native(part: NDArray[Any]) -> NDArray[Any]:
    return part.astype(part.dtype.newbyteorder("="), copy=False).reshape(*part.shape[:2], -1)


def _is_deep_png(path: Path) -> bool:
    # Byte 24 of a PNG, in its first chunk: bits a channel.
    with path.open("rb") as stream:
        return stream.read(25)[24:] == b"\x10"


def _deep_tiff(path: Path, header: Header) -> NDArray[Any]:
    """A TIFF of 16 bits a channel in RGB, which Pillow would cut to 8."""
    try:
        import tifffile
    except ImportError as error:
        raise UserError(
            'expected tifffile for a TIFF of 16 bits in RGB; run `pip install "layerlab[images]"`', file=path
        ) from error
    try:
        pixels = tifffile.imread(path, key=0)
    except (tifffile.TiffFileError, IndexError, RuntimeError, TypeError) as error:
        # RuntimeError, TypeError: how it says that a compression needs a further package.
        raise UserError(
            f"expected a TIFF that tifffile reads, but {error}; save it again", file=path
        ) from error
    if pixels.shape[:1] == (3,) and pixels.shape[1:] == (header.height, header.width):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.shape[:2] != (header.height, header.width) or pixels.ndim != 3 or pixels.dtype != np.uint16:
        raise UserError(
            f"expected 16-bit RGB, got {pixels.dtype} of shape {pixels.shape}; convert it", file=path
        )
    return np.ascontiguousarray(pixels[..., :3])
