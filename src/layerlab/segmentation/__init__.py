"""U-Net segmentation from a folder of images and masks, with the skip connections on trial.

The names below are imported on first use: `import layerlab` does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

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

_HOMES = {
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

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
