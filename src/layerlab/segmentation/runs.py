"""Training runs of this room on disk: train a U-Net and keep it, open what was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from layerlab.errors import UserError
from layerlab.lab.process_group import Group
from layerlab.lab.records import RunFolder
from layerlab.lab.trained import CHECKPOINT, begin_training, finish_training, open_training, rebuild
from layerlab.lab.training import fit, thread_count
from layerlab.segmentation.dataset import ImageSet
from layerlab.segmentation.fast import keeping_memory
from layerlab.segmentation.metrics import measure
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.task import PartName, SegmentationTask, build_model, schedule_for
from layerlab.segmentation.unet import UNet
from layerlab.segmentation.worst import keep_worst

TRAIN_KIND = "segmentation-train"
RESULTS = ("metrics", "best_epoch", "epochs", "parameters", "curves", "measures", "images")
_MEND = "train again, into another folder"


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training run with its model.

    Attributes:
        run: the folder.
        model: in evaluation mode, on the CPU, in channels-last layout. It takes images ``(n, channels, h, w)``,
            float32 in [0, 1], at the size that ``settings.working_size`` says, and gives logits.
        settings: of the training.
        classes: their names.
        channels: of the images.
    """

    run: RunFolder
    model: UNet
    settings: Settings
    classes: tuple[str, ...]
    channels: int


def train_run(
    data: ImageSet,
    settings: Settings,
    *,
    out: Path,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
    command: Sequence[str] = (),
    on_image: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
    group: Group | None = None,
) -> RunFolder:
    """Train a U-Net and keep it in a run folder, or go on with the run that is there.

    Args:
        data: images and masks.
        settings: of network and training.
        out: the run folder; a finished run of the same data, split and settings is returned as it is, an unfinished
            one resumed, and one whose weights or results are damaged is trained again.
        seed: of weights, order, squares, augmentation and the split.
        source: where the data come from, as JSON, for the record.
        command: what was typed, for the record.
        on_image: called with the images read so far and all that will be.
        on_epoch: called with the epoch, the largest possible epoch and the metrics.
        group: processes that train this network together, each of which calls this with the same arguments: they
            share every batch. Rank 0 alone writes.

    Returns:
        The finished run. Its ``meta["results"]`` holds what `FitResult.record` does, ``measures`` of the validation
        part (and the test part, if there is one; see `layerlab.segmentation.metrics.measure`), ``images``, the
        validation images with the mean IoU of each, worst first, ``device`` and ``weights_sha256``.

    Raises:
        UserError: see `SegmentationTask` and `fit`; or the folder cannot be written or holds another run, or the
            processes see different images.
    """
    parts = data.parts(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if group is not None:
        device = str(group.device)
    read = 0

    def tell() -> None:
        nonlocal read
        read += 1
        if on_image is not None:
            on_image(read, len(parts.train) + len(parts.validation))

    load = partial(SegmentationTask, data, parts, settings, device=device, on_sample=tell, group=group)
    task = load() if group is None else group.everywhere(load)
    config = {
        "data": data.name,
        "source": dict(source or {}),
        "fingerprint": task.fingerprint,
        "seed": seed,
        "settings": asdict(settings),
        "channels": data.channels,
        "classes": list(data.classes),
        "images": {name: [data.names[index] for index in indices] for name, indices in asdict(parts).items()},
    }
    if group is not None:
        group.expect_same("images", task.fingerprint, "give each machine the same images and masks")
        config["processes"] = group.size
        # Machines may keep the images in different places.
        group.expect_same("options", {**config, "source": None}, "start all with the same command")
    run, finished = begin_training(out, TRAIN_KIND, command, config, RESULTS, group)
    if finished:
        return run
    with keeping_memory():
        result = fit(
            task,
            schedule_for(settings),
            seed=seed,
            checkpoint=run.path / CHECKPOINT,
            config=config,
            on_epoch=None
            if on_epoch is None
            else lambda epoch, metrics: on_epoch(epoch, settings.epochs, metrics),
            threads=settings.threads,
            group=group,
        )

    def results() -> dict[str, Any]:
        measures, images = {}, []
        with thread_count(settings.threads):
            for part in _measured(task):
                counted = task.counts(result.model, part)
                measures[part] = measure([counts for _, _, counts in counted])
                if part == "validation":
                    images = keep_worst(run, counted)
        found = {"steps": task.steps, "measures": measures, "images": images, "device": device}
        return {**result.record(), **found}

    finish_training(run, result.model, results, group)
    return run


def open_trained(path: str | Path) -> Trained:
    """Open a finished training run and rebuild its model.

    Args:
        path: a folder that `train_run` made.

    Raises:
        UserError: not a training run, not finished, or damaged.
    """
    run = open_training(path, TRAIN_KIND, RESULTS)
    settings, channels, classes = _trained(run)
    model = rebuild(run, lambda: build_model(settings, channels, len(classes)))
    return Trained(run, model, settings, classes, channels)


def _measured(task: SegmentationTask) -> tuple[PartName, ...]:
    return ("validation", "test") if task.parts.test else ("validation",)


def _trained(run: RunFolder) -> tuple[Settings, int, tuple[str, ...]]:
    """Settings, channels and classes of a training run, read as data of unknown origin."""
    config, file = run.meta["config"], run.path / "run.json"
    fields, channels, classes = (config.get(name) for name in ("settings", "channels", "classes"))
    try:
        settings = Settings(**fields)
    except (TypeError, UserError) as error:
        raise UserError(f"the run's settings are damaged ({error}); {_MEND}", file=file) from None
    if type(channels) is not int or not 1 <= channels <= 1_000:
        raise UserError(f"expected the number of channels, got {channels!r}; {_MEND}", file=file)
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or not 1 <= len(classes) <= 255:
        raise UserError(f"expected a list of 1 to 255 class names, got {classes!r}; {_MEND}", file=file)
    return settings, channels, tuple(classes)
