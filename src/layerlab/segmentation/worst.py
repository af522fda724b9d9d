"""The validation images that a training did worst on: small pictures, kept beside the run's record for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from layerlab.errors import UserError
from layerlab.lab.records import RunFolder
from layerlab.lab.weights import read_tensors, write_tensors
from layerlab.segmentation.metrics import Counts, iou, mean_known
from layerlab.segmentation.palette import shown
from layerlab.segmentation.samples import Sample

CASES = "cases.safetensors"

WORST = 12
"""Images whose predictions are kept for the page, those of the lowest IoU."""

_LARGEST = 256


@dataclass(frozen=True, eq=False)
class WorstCase:
    """An image of a run's validation part with its target and prediction, made small for the page.

    Attributes:
        name: of the image.
        iou: the mean over the classes that occur in target or prediction.
        image: uint8 ``(h, w, 3)``.
        target: uint8 ``(h, w)``.
        prediction: uint8 ``(h, w)``.
    """

    name: str
    iou: float
    image: np.ndarray
    target: np.ndarray
    prediction: np.ndarray


def keep_worst(run: RunFolder, counted: Sequence[tuple[Sample, np.ndarray, Counts]]) -> list[dict[str, Any]]:
    """Every image with its mean IoU, worst first; the pictures of the first are written beside the record."""
    scored = [(mean_known(iou(counts.confusion)), sample, mask) for sample, mask, counts in counted]
    # An image of ignored pixels only has no IoU: it comes last.
    scored.sort(key=lambda entry: 2.0 if entry[0] != entry[0] else entry[0])
    tensors, header = {}, {}
    for place, (score, sample, mask) in enumerate(scored[:WORST]):
        step = max(1, -(-max(mask.shape) // _LARGEST))
        picture = shown(sample.image.permute(1, 2, 0).float().numpy())
        for name, pixels in (("image", picture), ("target", sample.mask.numpy()), ("prediction", mask)):
            tensors[f"{place}.{name}"] = torch.from_numpy(np.ascontiguousarray(pixels[::step, ::step]))
        header[f"{place}.name"] = sample.name.encode("utf-8", "replace").decode()
        header[f"{place}.iou"] = repr(score)
    write_tensors(run.path / CASES, tensors, header)
    return [{"name": sample.name, "iou": score} for score, sample, _ in scored]


def read_worst(run: RunFolder) -> list[WorstCase]:
    """The validation images that a run did worst on, worst first; none when they are not there any more.

    Raises:
        UserError: the file is damaged.
    """
    path = run.path / CASES
    mend = "train again, or remove the file to do without its pictures"
    try:
        tensors, header = read_tensors(path, mend)
    except FileNotFoundError:
        return []
    cases = []
    try:
        for place in range(len(tensors) // 3):
            image, target, prediction = (
                tensors[f"{place}.{name}"].numpy() for name in ("image", "target", "prediction")
            )
            if image.shape != (*target.shape, 3) or target.shape != prediction.shape:
                raise ValueError("sizes do not fit")
            cases.append(
                WorstCase(header[f"{place}.name"], float(header[f"{place}.iou"]), image, target, prediction)
            )
    except (KeyError, ValueError) as error:
        raise UserError(f"the pictures are damaged ({error}); {mend}", file=path) from None
    return cases
