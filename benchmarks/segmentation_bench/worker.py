"""A process of its own: one large image predicted by tiles, with its peak memory.

Usage: python -m segmentation_bench.worker '{"task": "large", ...}'; prints one line of JSON.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from bench_common.memory import Peak
from bench_common.workers import answer
from numpy.typing import NDArray
from torch import Tensor

from layerlab.segmentation.fast import prepared
from layerlab.segmentation.tiles import Tiling, blended
from segmentation_bench import contestants, gate
from segmentation_bench.races import WIDTHS


def large(side: int, tile: int, threads: int) -> dict[str, Any]:
    """A ``side`` x ``side`` RGB image: its mask and its confidence, the image and both of them in memory."""
    torch.set_num_threads(threads)
    net = contestants.ours(WIDTHS)
    gate.settle(net, contestants.drawn(2, 64)[0])
    model = prepared(net)
    tiling = Tiling(tile)
    mask_of(model, pixels_of(2 * tile), tiling)  # everything imported
    memory = Peak()
    pixels = pixels_of(side)
    started = time.perf_counter()
    mask = mask_of(model, pixels, tiling)
    seconds = time.perf_counter() - started
    return {
        "side": side,
        "tile": tile,
        "classes": contestants.CLASSES,
        "seconds": seconds,
        "image_bytes": pixels.nbytes,
        "found": len(np.unique(mask)),
        **memory.found(),
    }


def pixels_of(side: int) -> NDArray[np.uint8]:
    """Bytes without a pattern, made in pieces so that the making needs no memory of its own."""
    made = np.empty((side, side, contestants.CHANNELS), np.uint8)
    rng = np.random.default_rng(0)
    for row in made:
        row[:] = rng.integers(0, 256, row.shape, np.uint8)
    return made


def mask_of(model: torch.nn.Module, pixels: NDArray[np.uint8], tiling: Tiling) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    mask, confidence = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)

    def rows(top: int, bottom: int) -> Tensor:
        return torch.from_numpy(pixels[top:bottom]).permute(2, 0, 1).float() / 255

    for band in blended(model, rows, (height, width), tiling):
        best = band.values.max(0)
        bottom = band.top + len(best.values)
        mask[band.top : bottom] = best.indices.to(torch.uint8).numpy()
        confidence[band.top : bottom] = (best.values * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return mask


if __name__ == "__main__":
    answer({"large": large})
