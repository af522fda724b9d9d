"""Tiles and bands give what one sliding window over the whole image gives, and no more memory than that needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.segmentation.tiles import WHOLE, Band, Tiling, blended, enlarged
from layerlab.segmentation.unet import UNet


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return UNet(2, 3, (4, 6)).eval()


def _image(height: int, width: int, channels: int = 2) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(1))


def _joined(net: nn.Module, image: Tensor, tiling: Tiling) -> tuple[Tensor, list[Band]]:
    bands = list(blended(net, lambda top, bottom: image[:, top:bottom], tuple(image.shape[1:]), tiling))
    return torch.cat([band.values for band in bands], 1), bands


def _by_monai(net: nn.Module, image: Tensor, tiling: Tiling) -> Tensor:
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        return sliding_window_inference(
            image[None],
            tiling.sides(*image.shape[1:]),
            3,
            lambda tiles: torch.softmax(net(tiles), 1),
            overlap=tiling.overlap,
            mode="gaussian",
        )[0]


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [
        (97, 61, 32, 0.25),
        (64, 64, 32, 0.25),
        (33, 32, 32, 0.25),
        (50, 90, 16, 0.7),
        (40, 20, 32, 0.5),
        (20, 80, 32, 0.0),
        (70, 33, 17, 0.9),
    ],
)
def test_bands_are_one_sliding_window_over_the_whole(
    net: nn.Module, height: int, width: int, tile: int, overlap: float
) -> None:
    image, tiling = _image(height, width), Tiling(tile, overlap)
    values, bands = _joined(net, image, tiling)
    assert values.shape == (3, height, width)
    assert [band.top for band in bands] == [
        sum(b.values.shape[1] for b in bands[:i]) for i in range(len(bands))
    ]
    assert torch.allclose(values, _by_monai(net, image, tiling), atol=2e-6, rtol=0)
    assert torch.allclose(values.sum(0), torch.ones(height, width), atol=1e-5)


def test_a_network_without_context_shows_no_seam() -> None:
    torch.manual_seed(2)
    pointwise = nn.Conv2d(2, 3, 1)
    image = _image(90, 75)
    values, _ = _joined(pointwise, image, Tiling(32, 0.25))
    with torch.inference_mode():
        whole = torch.softmax(pointwise(image[None]), 1)[0]
    assert torch.allclose(values, whole, atol=1e-6, rtol=0)


def test_weights_fall_towards_a_tile_s_border() -> None:
    # Between two tiles with different answers, the blend must pass gradually from one to the other.
    class OwnColumn(nn.Module):
        def forward(self, tiles: Tensor) -> Tensor:
            first = tiles[:, :, :, :1].expand_as(tiles)
            return torch.cat([first, -first], 1) * 20

    ramp = torch.linspace(-1, 1, 48).expand(1, 32, 48)
    values, _ = _joined(OwnColumn(), ramp, Tiling(32, 0.5))
    across = values[0, 16, 16:32]
    assert (across.diff() >= -1e-6).all()
    assert across.diff().max() < 0.5


def test_an_image_that_needs_no_cut_goes_through_the_network_whole(net: nn.Module) -> None:
    image = _image(37, 53)
    values, bands = _joined(net, image, Tiling())
    with torch.inference_mode():
        assert torch.equal(values, torch.softmax(net(image[None]), 1)[0])
    assert len(bands) == 1


def test_tiles_are_needed_beyond_a_million_pixels_or_when_asked_for() -> None:
    assert WHOLE == 1024 * 1024
    assert Tiling().sides(1024, 1024) == (1024, 1024)
    assert Tiling().sides(1024, 1025) == (256, 256)
    assert Tiling(64).sides(65, 64) == (64, 64)
    assert Tiling(64).sides(64, 64) == (64, 64)


def test_small_images_need_no_monai() -> None:
    code = (
        "import sys; sys.modules['monai'] = None\n"
        "import torch\n"
        "from layerlab.errors import UserError\n"
        "from layerlab.segmentation.tiles import Tiling, blended\n"
        "net = torch.nn.Conv2d(1, 2, 1); image = torch.rand(1, 40, 40)\n"
        "rows = lambda top, bottom: image[:, top:bottom]\n"
        "assert len(list(blended(net, rows, (40, 40)))) == 1\n"
        "try: list(blended(net, rows, (40, 40), Tiling(16)))\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "layerlab[images]" in done.stdout


def test_rows_are_asked_for_from_top_to_bottom_and_one_row_of_tiles_at_a_time(net: nn.Module) -> None:
    image, asked = _image(100, 40), []

    def rows(top: int, bottom: int) -> Tensor:
        asked.append((top, bottom))
        return image[:, top:bottom]

    for _ in blended(net, rows, (100, 40), Tiling(32, 0.25)):
        pass
    assert asked == [(0, 32), (24, 56), (48, 80), (68, 100)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((20, 13), (47, 29)),
        ((20, 13), (20, 40)),
        ((20, 13), (7, 5)),
        ((1, 1), (9, 4)),
        ((20, 13), (3000, 13)),
    ],
)
@pytest.mark.parametrize("cuts", [(20,), (7, 14, 20), tuple(range(1, 21))])
def test_enlarging_in_bands_is_enlarging_the_whole(
    old: tuple[int, int], new: tuple[int, int], cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlab.segmentation.tiles._VALUES", 300)
    image = _image(*old)
    ends = [end for end in cuts if end <= old[0]] or [old[0]]
    bands = [Band(start, image[:, start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    made = list(enlarged(iter(bands), old, new))
    assert [band.top for band in made] == [sum(b.values.shape[1] for b in made[:i]) for i in range(len(made))]
    whole = functional.interpolate(image[None], new, mode="bilinear")[0]
    assert torch.allclose(torch.cat([band.values for band in made], 1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("tile", "overlap"), [(15, 0.25), (9000, 0.25), (64, -0.1), (64, 0.95)])
def test_impossible_tilings_are_refused(tile: int, overlap: float) -> None:
    with pytest.raises(UserError, match=r"expected a tile|expected an overlap"):
        Tiling(tile, overlap)
