"""Class probabilities of an image of any size, from top to bottom, in memory that grows with its width alone.

A large image is covered by tiles that overlap, as MONAI's sliding window places them, and where they overlap their
probabilities are averaged with weights that fall towards a tile's border. One row of tiles at a time goes through the
sliding window; what the rows have in common is kept until the next one has been added. So no seam is left, neither
between tiles nor between rows: up to rounding, the result is that of one sliding window over the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.errors import UserError

WHOLE = 2**20
"""An image of at most so many pixels is predicted in one piece unless a tile is asked for."""

_TILE = 256
_TOGETHER = 4  # tiles that go through the network at a time
_VALUES = 2**23  # that a band of the enlarged probabilities may hold: 32 MiB


@dataclass(frozen=True)
class Tiling:
    """How a large image is cut.

    Args:
        tile: pixels a side, 16 ... 8192; None: 256, and an image of at most `WHOLE` pixels stays in one piece.
        overlap: share of a side that neighbours have in common, 0 ... 0.9.

    Raises:
        UserError: a tile or an overlap outside.

    >>> Tiling(tile=256).sides(10_000, 200), Tiling().sides(1000, 1000)
    ((256, 200), (1000, 1000))
    """

    tile: int | None = None
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.tile is not None and not 16 <= self.tile <= 8192:
            raise UserError(f"expected a tile of 16 ... 8192 pixels a side, got {self.tile}")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"expected an overlap of 0 ... 0.9, got {self.overlap}")

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a tile of such an image: its own where it needs no cut."""
        if self.tile is None and height * width <= WHOLE:
            return height, width
        tile = self.tile or _TILE
        return min(tile, height), min(tile, width)


@dataclass(frozen=True, eq=False)
class Band:
    """Rows ``top ...`` of an image: ``values`` is float32 ``(classes, rows, width)``, probabilities."""

    top: int
    values: Tensor


def blended(
    model: nn.Module,
    rows: Callable[[int, int], Tensor],
    size: tuple[int, int],
    tiling: Tiling = Tiling(),
) -> Iterator[Band]:
    """Probabilities of every pixel, in bands from top to bottom.

    With p_t the softmax of the network on tile t, and w(x - t) a Gaussian of one eighth of the tile's side around its
    middle, ``p(x) = sum_t w(x - t) p_t(x) / sum_t w(x - t)``.

    Args:
        model: in evaluation mode; ``(n, channels, h, w)`` -> logits ``(n, classes, h, w)``.
        rows: ``rows(top, bottom)`` is that part of the image, float32 ``(channels, bottom - top, width)``; asked for
            from top to bottom.
        size: of the image, ``(height, width)``.
        tiling: how it is cut.

    Raises:
        UserError: the image must be cut, and MONAI is not installed.

    >>> net = nn.Conv2d(1, 2, 1)
    >>> image = torch.rand(1, 5, 7)
    >>> [band.values.shape for band in blended(net, lambda top, bottom: image[:, top:bottom], (5, 7))]
    [torch.Size([2, 5, 7])]
    """
    height, width = size
    tall, wide = tiling.sides(height, width)
    if (tall, wide) == (height, width):
        yield Band(0, _probabilities(model, rows(0, height)[None])[0])
        return
    step = max(1, int(tall * (1 - tiling.overlap)))
    tops = [min(step * place, height - tall) for place in range(-(-(height - tall) // step) + 1)]
    # Sums over the tiles so far of w p and of w, on rows tops[i] ... tops[i] + tall.
    sums = weights = torch.zeros(0)
    for top, following in pairwise([*tops, height]):
        values, weight = _strip(model, rows(top, top + tall), wide, tiling.overlap)
        values *= weight
        if top:
            kept = sums.shape[1]
            values[:, :kept] += sums
            weight[:kept] += weights
        done = following - top
        # Copies: a view would keep the whole strip.
        sums, weights = values[:, done:].clone(), weight[done:].clone()
        yield Band(top, values[:, :done] / weight[:done])


def _probabilities(model: nn.Module, images: Tensor) -> Tensor:
    # Not inference mode: its tensors could not be summed up in place outside of it.
    with torch.no_grad():
        return torch.softmax(model(images).float(), 1)


def _strip(model: nn.Module, strip: Tensor, wide: int, overlap: float) -> tuple[Tensor, Tensor]:
    """Probabilities of one row of tiles, blended, and the sum of the weights at every pixel."""
    try:
        from monai.data.utils import compute_importance_map
        from monai.inferers.utils import sliding_window_inference
    except ImportError as error:
        raise UserError(
            'expected MONAI to predict an image larger than a tile; run `pip install "layerlab[images]"`, or give a '
            "tile as large as the image"
        ) from error
    tall, width = strip.shape[1:]
    window = compute_importance_map((tall, wide), mode="gaussian")
    weight = torch.zeros(tall, width)

    def predict(tiles: Tensor, places: list[list[slice]]) -> Tensor:
        for *_, columns in places:
            weight[:, columns] += window
        return _probabilities(model, tiles)

    values = sliding_window_inference(
        strip[None], (tall, wide), _TOGETHER, predict, overlap=overlap, mode="gaussian", with_coord=True
    )
    assert isinstance(values, Tensor)  # for the type checker: as many outputs as the network gives
    return values[0], weight


def enlarged(bands: Iterator[Band], old: tuple[int, int], new: tuple[int, int]) -> Iterator[Band]:
    """Bands of an image of size ``old``, interpolated bilinearly to size ``new``, from top to bottom.

    The middle of pixel r of n lies at (r + 1/2) / n; beyond the middles of the outermost pixels their values go on.
    The same as `torch.nn.functional.interpolate` of the whole, in pieces.
    """
    if old == new:
        yield from bands
        return
    (height, _), (rows, width) = old, new
    places = ((torch.arange(rows, dtype=torch.float64) + 0.5) * (height / rows) - 0.5).clamp(0, height - 1)
    lower = places.floor().long()
    upper = (lower + 1).clamp(max=height - 1)
    share = (places - lower).float()
    done, start = 0, 0
    held = torch.zeros(0)
    for band in bands:
        # The last row of what came before may be the upper neighbour of what can be made now.
        held = torch.cat([held[:, -1:], band.values], 1) if held.numel() else band.values
        start = band.top + band.values.shape[1] - held.shape[1]
        ready = int(torch.searchsorted(upper, start + held.shape[1]))
        together = max(1, _VALUES // (len(held) * max(width, held.shape[2])))
        for first in range(done, ready, together):
            some = slice(first, min(first + together, ready))
            low, high = held[:, lower[some] - start], held[:, upper[some] - start]
            mixed = torch.lerp(low, high, share[some, None])
            yield Band(
                first, functional.interpolate(mixed[None], (mixed.shape[1], width), mode="bilinear")[0]
            )
        done = ready
