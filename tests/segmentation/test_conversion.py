"""From published archives to folders."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from archives import RNG, archive, encoded, pets, photograph, trimap
from PIL import Image

from layerlab.errors import UserError
from layerlab.segmentation.class_files import read_classes
from layerlab.segmentation.conversion import RECIPES, convert
from layerlab.segmentation.folder_set import Asked, folder


def test_pets(tmp_path: Path) -> None:
    images, masks = pets(tmp_path)
    target = tmp_path / "out"
    target.mkdir()
    told: list[float] = []
    done = convert(RECIPES["pets"], images, masks, target, progress=lambda share, _: told.append(share))
    assert (done.pairs, done.without_mask) == (2, 1)
    assert sorted(words.partition(":")[0] for words in done.left_out) == [
        "beagle_3",
        "damaged_5",
        "the mask of boxer_4",
    ]
    assert told[-1] == pytest.approx(1.0)
    assert sorted(path.name for path in (target / "images").iterdir()) == ["Abyssinian_1.jpg", "Bengal_2.png"]
    assert sorted(path.stem for path in (target / "masks").iterdir()) == ["Abyssinian_1", "Bengal_2"]
    found = folder(target / "images", target / "masks", Asked(read_classes(target / "classes.json")))
    assert found.classes == ("background", "pet")
    # 1 pet, 2 background, 3 the border.
    assert found.read(0)[1][0, :6].tolist() == [1, 0, 255, 1, 0, 255]


@pytest.mark.parametrize("resolved", [False, True])
def test_flowers_by_hand_whether_as_indices_or_as_colours(tmp_path: Path, resolved: bool) -> None:
    palette = np.array(
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]], np.uint8
    )
    indices = np.resize(np.arange(6, dtype=np.uint8), (24, 32))
    content = encoded(palette[indices] if resolved else indices, "PNG")
    masks = archive(tmp_path / "t.tgz", {"trimaps/image_0007.png": content, "trimaps/imlist.mat": b"x"})
    images = archive(tmp_path / "j.tgz", {f"jpg/image_{n:04d}.jpg": photograph() for n in (7, 8, 9)})
    (tmp_path / "out").mkdir()
    done = convert(RECIPES["flowers17"], images, masks, tmp_path / "out")
    assert (done.pairs, done.without_mask) == (1, 2)
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "image_0007.png"))
    assert mask[0, :6].tolist() == [255, 1, 2, 0, 3, 255]


def test_flowers_cut_out_on_blue(tmp_path: Path) -> None:
    pixels = np.full((48, 48, 3), (0, 0, 254), np.uint8)
    pixels[12:36, 12:36] = RNG.integers(120, 256, (24, 24, 3), dtype=np.uint8)
    masks = archive(tmp_path / "s.tgz", {"segmim/segmim_00003.jpg": encoded(pixels, "JPEG", quality=75)})
    images = archive(tmp_path / "j.tgz", {"jpg/image_00003.jpg": photograph(height=48, width=48)})
    (tmp_path / "out").mkdir()
    assert convert(RECIPES["flowers102"], images, masks, tmp_path / "out").pairs == 1
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "00003.png"))
    truth = np.zeros((48, 48), np.uint8)
    truth[12:36, 12:36] = 1
    certain = mask != 255
    np.testing.assert_array_equal(mask[certain], truth[certain])
    # The band is a few pixels on both sides of the border, and no more.
    assert certain[18:30, 18:30].all()
    assert certain[:6].all()
    assert not certain[12, 12:36].any()
    assert not certain[11, 12:36].any()


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    masks = archive(
        tmp_path / "m.tgz",
        {
            "annotations/trimaps/../../evil.png": trimap(1, 2),
            "/annotations/trimaps/root.png": trimap(1, 2),
            "annotations/trimaps/a b.png": trimap(1, 2),
            "annotations/trimaps/good_1.png": trimap(1, 2),
        },
    )
    with tarfile.open(tmp_path / "i.tgz", "w:gz") as stored:
        link = tarfile.TarInfo("images/good_1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        stored.addfile(link)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="images of the published set in it, found none"):
        convert(RECIPES["pets"], tmp_path / "i.tgz", masks, tmp_path / "out")
    assert not list(tmp_path.rglob("evil.png"))
    assert not list((tmp_path / "out" / "images").iterdir())


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as stored:
        for _ in range(2):
            stored.addfile(tarfile.TarInfo("annotations/trimaps/a_1.png"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="too large or twice"):
        convert(RECIPES["pets"], tmp_path / "m.tgz", tmp_path / "m.tgz", tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 30, 400])
def test_a_damaged_archive_is_told(tmp_path: Path, keep: int) -> None:
    images, masks = pets(tmp_path)
    masks.write_bytes(masks.read_bytes()[:keep])
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"annotations.tar.gz: expected"):
        convert(RECIPES["pets"], images, masks, tmp_path / "out")
    masks.unlink()
    masks.symlink_to("nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"annotations.tar.gz: expected"):
        convert(RECIPES["pets"], images, masks, tmp_path / "other")
