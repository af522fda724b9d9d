"""Reading picture files, good and bad."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from layerlab.errors import UserError
from layerlab.segmentation import images
from layerlab.segmentation.images import fractions, read_header, read_image, read_labels

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)


def saved(folder: Path, name: str, picture: Image.Image, **how: object) -> Path:
    picture.save(folder / name, **how)
    return folder / name


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "with spaces.png", "Übergröße 花.png"])
def test_rgb_comes_back_to_the_value(tmp_path: Path, name: str) -> None:
    picture = read_image(saved(tmp_path, name, Image.fromarray(RGB)))
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert (picture.header.height, picture.header.width, picture.header.kind) == (5, 7, "RGB")
    assert picture.notes == ()


def test_a_jpeg_is_read_whatever_its_name_says(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(RGB), format="JPEG")
    assert read_image(path).pixels.shape == (5, 7, 3)
    assert read_header(path).format == "JPEG"


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_16_bits_keeps_them(tmp_path: Path, name: str) -> None:
    picture = read_image(saved(tmp_path, name, Image.fromarray(DEEP)))
    np.testing.assert_array_equal(picture.pixels[..., 0], DEEP)
    assert picture.pixels.dtype == np.uint16


def test_a_big_endian_tiff_has_the_same_values(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP, byteorder=">")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], DEEP)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_of_16_bits_in_tiff_keeps_them(tmp_path: Path, planar: str) -> None:
    deep = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    stored = deep if planar == "contig" else np.moveaxis(deep, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, deep)


def test_rgb_of_16_bits_in_png_is_told(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + RNG.integers(0, 256, 6 * 4, dtype=np.uint8).tobytes() for _ in range(3))
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 3, rows, bits=16))
    picture = read_image(path)
    assert picture.pixels.dtype == np.uint8
    assert "upper 8 are read" in picture.notes[0]


def png(width: int, height: int, rows: bytes, *, bits: int = 8) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def test_a_palette_is_colours_for_an_image_and_indices_for_labels(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    path = saved(tmp_path, "a.png", indexed)
    assert read_image(path).pixels[0, 1].tolist() == [255, 0, 0]
    labels = read_labels(path)
    assert labels.pixels[..., 0].tolist() == [[0, 1], [2, 1]]
    assert labels.palette is not None
    assert labels.palette[:3].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_left_out_and_told(tmp_path: Path, mode: str) -> None:
    picture = read_image(saved(tmp_path, "a.png", Image.fromarray(RGB).convert(mode)))
    assert picture.notes == ("its alpha channel is left out",)
    assert picture.pixels.shape == (5, 7, 3 if mode == "RGBA" else 1)


def test_a_palette_with_transparency_is_read(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    indexed.putpalette([9, 9, 9, 255, 0, 0])
    path = saved(tmp_path, "a.png", indexed, transparency=bytes([0, 255]))
    assert read_image(path).pixels[0].tolist() == [[9, 9, 9], [255, 0, 0]]
    assert read_image(path).notes == ("its alpha channel is left out",)


def test_two_tone_pictures_are_0_and_255(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))
    assert read_labels(path).pixels[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture(tmp_path: Path, name: str, orientation: int) -> None:
    blocks = np.zeros((16, 32), np.uint8)
    blocks[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, name, Image.fromarray(blocks), exif=exif)
    turned = {
        1: blocks,
        2: blocks[:, ::-1],
        3: blocks[::-1, ::-1],
        4: blocks[::-1],
        5: blocks.T,
        6: blocks[::-1].T,
        7: blocks[::-1, ::-1].T,
        8: blocks.T[::-1],
    }[orientation]
    picture = read_image(path)
    assert np.abs(picture.pixels[..., 0].astype(int) - turned).max() < 8
    assert (picture.header.height, picture.header.width) == turned.shape
    assert (read_header(path).height, read_header(path).width) == turned.shape
    assert bool(picture.notes) == (orientation != 1)


def test_large_pictures_are_copied_in_stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_STRIPE", 14)
    for name, pixels in (("a.png", RGB), ("b.tif", DEEP)):
        path = saved(tmp_path, name, Image.fromarray(pixels))
        np.testing.assert_array_equal(read_image(path).pixels, pixels.reshape(5, 7, -1))


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path, "a.png", Image.new("L", (1, 1), 7))).pixels.tolist() == [[[7]]]


def test_label_images_of_32_bits_are_read_and_photographs_are_not(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 70000]], np.int32))
    assert read_labels(tmp_path / "a.tif").pixels[..., 0].tolist() == [[0, 70000]]
    with pytest.raises(UserError, match="got 32"):
        read_image(tmp_path / "a.tif")


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 3), (40 * place, 0, 0)) for place in range(count)]


@pytest.mark.parametrize(("name", "word"), [("a.tif", "pages"), ("a.png", "frames")])
def test_several_pictures_in_one_are_refused(tmp_path: Path, name: str, word: str) -> None:
    path = saved(tmp_path, name, frames(2)[0], save_all=True, append_images=frames(3)[1:])
    with pytest.raises(UserError, match=f"got several \\({word}\\)"):
        read_image(path)


def test_other_formats_are_named(tmp_path: Path) -> None:
    for name, what in (("a.gif", "a GIF"), ("a.webp", "a WebP")):
        with pytest.raises(UserError, match=f"got {what}; convert it to PNG"):
            read_image(saved(tmp_path, name, frames(1)[0]))
    (tmp_path / "b.png").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="a Git LFS pointer"):
        read_image(tmp_path / "b.png")
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UserError, match="HEIC"):
        read_image(tmp_path / "c.heic")


def test_cmyk_and_floating_point_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got CMYK, .*convert it to RGB"):
        read_image(saved(tmp_path, "a.jpg", Image.fromarray(RGB).convert("CMYK")))
    with pytest.raises(UserError, match="floating point"):
        read_image(saved(tmp_path, "a.tif", Image.fromarray(GREY).convert("F")))


@pytest.mark.filterwarnings("ignore")  # What Pillow remarks on damaged tags.
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_every_truncation_is_told_and_nothing_else_gets_out(tmp_path: Path, name: str) -> None:
    whole = saved(tmp_path, name, Image.fromarray(np.repeat(RGB, 9, axis=0))).read_bytes()
    path = tmp_path / f"cut-{name}"
    refused = 0
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        try:
            read_image(path)
        except UserError as error:
            refused += 1
            assert str(error).startswith(str(path))
    # A JPEG's or BMP's last bytes may be missing without a loss.
    assert refused >= 58


@pytest.mark.filterwarnings("ignore")  # What Pillow remarks on damaged tags.
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_damaged_bytes_raise_nothing_but_user_errors(tmp_path: Path, name: str) -> None:
    whole = bytearray(saved(tmp_path, name, Image.fromarray(RGB)).read_bytes())
    path = tmp_path / f"bad-{name}"
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        bad = bytearray(whole)
        for place in rng.integers(0, len(bad), 3):
            bad[place] = rng.integers(256)
        path.write_bytes(bad)
        try:
            read_image(path)
        except UserError:
            refused += 1
    assert refused > 10


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000, b"\0" * 1000))
    for read in (read_header, read_image, read_labels):
        with pytest.raises(UserError, match=r"at most 1,024 MiB .* 60,000 x 60,000"):
            read(tmp_path / "a.png")


def test_a_picture_of_ten_thousand_squared_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(10_000, 10_000, b"\0" * 1000))
    assert read_header(tmp_path / "a.png").width == 10_000


def test_what_is_no_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in (
        ("empty", "empty file"),
        ("folder", "not a file"),
        ("link", "a link to a file that is not there"),
        ("pipe", "not a file"),
        ("none", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            read_image(tmp_path / f"{name}.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The superuser, as whom tests may run, may read everything.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        read_image(tmp_path / "empty.png")


def test_tifffile_is_asked_for_by_name_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 7, 3), np.uint16), photometric="rgb")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(UserError, match=r'pip install "layerlab\[images\]"'):
        read_image(tmp_path / "a.tif")


def test_fractions_end_at_one() -> None:
    assert fractions(np.array([0, 255], np.uint8)).tolist() == [0.0, 1.0]
    assert fractions(np.array([0, 65535], np.uint16)).tolist() == [0.0, 1.0]
    assert fractions(np.array([3], np.uint8)).dtype == np.float32
