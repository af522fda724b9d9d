"""Single images of a race with both arms' masks: where skips leave most to wish, and where they change most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.lab.race import CellResult, cell_key
from layerlab.lab.training import one_thread
from layerlab.lab.weights import read_tensors, write_tensors
from layerlab.segmentation.dataset import ImageSet
from layerlab.segmentation.palette import shown
from layerlab.segmentation.runs import open_trained
from layerlab.segmentation.samples import load_sample
from layerlab.segmentation.settings import Settings

CASES = "cases.safetensors"
WORST, APART = 6, 3
ARMS = ("on", "off")


@dataclass(frozen=True, eq=False)
class RaceCase:
    """An image of the validation part of a race's first seed, with the masks of both arms.

    Attributes:
        name: of the image.
        group: "worst" (of the network with skips), "helped" or "harmed" (most, by the skips).
        image: uint8 ``(h, w, 3)``.
        target: uint8 ``(h, w)``.
        predictions: with skips and without, uint8 ``(h, w)`` each.
        iou: of each of them, the mean over the classes that occur.
    """

    name: str
    group: str
    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    predictions: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    iou: tuple[float, float]


def groups(with_skips: Mapping[str, float], without: Mapping[str, float]) -> list[tuple[str, str]]:
    """Which images to show, of the IoU of each under both arms: ``(group, name)``, no image twice.

    >>> groups({"a": 0.2, "b": 0.9}, {"a": 0.3, "b": 0.1})
    [('worst', 'a'), ('worst', 'b')]
    """
    names = [name for name in with_skips if name in without]
    worst = sorted(names, key=lambda name: with_skips[name])[:WORST]
    rest = sorted(
        (name for name in names if name not in worst), key=lambda name: without[name] - with_skips[name]
    )
    helped = [name for name in rest[:APART] if with_skips[name] > without[name]]
    harmed = [name for name in rest[::-1][:APART] if with_skips[name] < without[name]]
    named = (("worst", worst), ("helped", helped), ("harmed", harmed))
    return [(group, name) for group, members in named for name in members]


def keep_cases(
    folder: Path, data: ImageSet, settings: Settings, cells: Mapping[str, CellResult], seed: int
) -> None:
    """Predict the images to show with both arms of a seed, and write them beside the race's record.

    Nothing is written where an arm is missing.

    Raises:
        UserError: an image or a cell's weights cannot be read.
    """
    keys = [cell_key(arm, seed) for arm in ARMS]
    if not all(key in cells for key in keys):
        return
    scores = [
        {entry["name"]: entry["iou"] for entry in cells[key]["images"] if _known(entry["iou"])}
        for key in keys
    ]
    indices = {name: index for index, name in enumerate(data.names)}
    nets = [open_trained(folder / "trained" / key).model for key in keys]
    tensors: dict[str, torch.Tensor] = {}
    header: dict[str, str] = {}
    for place, (group, name) in enumerate(groups(*scores)):
        sample = load_sample(data, indices[name], settings)
        with one_thread(), torch.inference_mode():
            masks = [net(sample.image[None].float()).argmax(1)[0].to(torch.uint8) for net in nets]
        picture = torch.from_numpy(shown(sample.image.permute(1, 2, 0).float().numpy()))
        for part, pixels in zip(("image", "target", *ARMS), (picture, sample.mask, *masks), strict=True):
            tensors[f"{place}.{part}"] = pixels
        header |= {f"{place}.name": name.encode("utf-8", "replace").decode(), f"{place}.group": group}
        header |= {f"{place}.{arm}": repr(score[name]) for arm, score in zip(ARMS, scores, strict=True)}
    write_tensors(folder / CASES, tensors, header)


def read_cases(folder: Path) -> list[RaceCase]:
    """The images that a race keeps to be shown; none when there are none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / CASES
    mend = "remove the file and run the race again"
    try:
        tensors, header = read_tensors(path, mend)
    except FileNotFoundError:
        return []
    try:
        return [_case(tensors, header, place) for place in range(len(tensors) // (2 + len(ARMS)))]
    except (KeyError, ValueError) as error:
        raise UserError(f"the pictures are damaged ({error}); {mend}", file=path) from None


def _case(tensors: Mapping[str, torch.Tensor], header: Mapping[str, str], place: int) -> RaceCase:
    image, target, *masks = (tensors[f"{place}.{part}"].numpy() for part in ("image", "target", *ARMS))
    if image.shape != (*target.shape, 3) or any(mask.shape != target.shape for mask in masks):
        raise ValueError("sizes do not fit")
    with_skips, without = (float(header[f"{place}.{arm}"]) for arm in ARMS)
    return RaceCase(
        header[f"{place}.name"],
        header[f"{place}.group"],
        image,
        target,
        (masks[0], masks[1]),
        (with_skips, without),
    )


def _known(value: float | None) -> bool:
    return value is not None and value == value
