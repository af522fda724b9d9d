"""U-Net segmentation from a folder of images and masks, with the skip connections on trial.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlab.segmentation.dataset import IGNORE, ImageSet, Parts
    from layerlab.segmentation.digits import Digits
    from layerlab.segmentation.fast import keeping_memory, prepared
    from layerlab.segmentation.folder_set import Asked, FolderSet, folder
    from layerlab.segmentation.interop import from_monai, to_monai
    from layerlab.segmentation.masks import Classes
    from layerlab.segmentation.runs import Trained, open_trained, train_run
    from layerlab.segmentation.settings import Settings
    from layerlab.segmentation.split import Split
    from layerlab.segmentation.unet import UNet

_HOMES: dict[str, str] = {
    "IGNORE": "dataset",
    "Asked": "folder_set",
    "Classes": "masks",
    "Digits": "digits",
    "FolderSet": "folder_set",
    "ImageSet": "dataset",
    "Parts": "dataset",
    "Settings": "settings",
    "Split": "split",
    "Trained": "runs",
    "UNet": "unet",
    "folder": "folder_set",
    "from_monai": "interop",
    "keeping_memory": "fast",
    "open_trained": "runs",
    "prepared": "fast",
    "to_monai": "interop",
    "train_run": "runs",
}

__all__ = [
    "IGNORE",
    "Asked",
    "Classes",
    "Digits",
    "FolderSet",
    "ImageSet",
    "Parts",
    "Settings",
    "Split",
    "Trained",
    "UNet",
    "folder",
    "from_monai",
    "keeping_memory",
    "open_trained",
    "prepared",
    "to_monai",
    "train_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
