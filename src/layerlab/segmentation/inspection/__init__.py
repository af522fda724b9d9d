"""Pages of this room: what a training did, and the sheet of images, targets and predictions that they share."""

from __future__ import annotations

from layerlab.segmentation.inspection.sheet import Row, sheet
from layerlab.segmentation.inspection.training_page import training_page

__all__ = ["Row", "sheet", "training_page"]
