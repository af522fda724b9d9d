"""Segmentation as `layerlab.lab.training.fit` wants it: model, steps, schedule, and what is measured after an epoch.

What is measured: whole images at working size (`Settings.working_size`), not squares, and against masks at that size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.lab.process_group import Group
from layerlab.lab.schedule import Schedule
from layerlab.segmentation.augment import augment, require_kornia
from layerlab.segmentation.dataset import IGNORE, ImageSet, Parts
from layerlab.segmentation.losses import balanced_weights, segmentation_loss
from layerlab.segmentation.metrics import Counts, confusion, count, iou, mean_known
from layerlab.segmentation.samples import Sample, fingerprint, load_samples, square
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.shared_norm import share_norms
from layerlab.segmentation.unet import UNet

PartName = Literal["train", "validation", "test"]

PIECE = 1024
"""A larger image is measured in pieces of so many pixels a side, so that its maps fit in memory."""

Batch = tuple[Tensor, Tensor]


def build_model(settings: Settings, channels: int, classes: int) -> UNet:
    """The network that the settings describe, in channels-last layout; drawn from torch's generator.

    Raises:
        UserError: the settings name an unknown skip, norm or up-sampling.
    """
    net = UNet(
        channels,
        classes,
        settings.widths,
        skips=settings.skips,
        norm=settings.norm,
        up=settings.up,
        dropout=settings.dropout,
    )
    # torch documents this form; its types ask for a device or a dtype beside it.
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def schedule_for(settings: Settings) -> Schedule:
    """Epochs, patience and which epoch is kept: that of the best mean validation IoU, pooled.

    Patience watches the validation loss too, which still falls while the IoU rests.
    """
    watch = ("validation_iou", "validation_loss") if settings.patience is not None else ()
    return Schedule(settings.epochs, "validation_iou", settings.patience, watch, "validation_loss")


class SegmentationTask:
    """A U-Net on the parts of an image set.

    Args:
        data: images and masks.
        parts: which train, which validate, which are tested on.
        settings: of the training.
        device: where to train; on "cuda" in mixed precision (bfloat16), on the CPU in float32.
        on_sample: called after each image that is read.
        group: processes that share every batch. Order, squares and augmentation are drawn for the whole batch, the
            loss and the batch norm are the whole batch's, and each measures a part of the validation images.

    Attributes:
        samples: of the training and the validation part, in memory.
        fingerprint: of what they hold.
        weights: of the classes in the loss, None when all are equal.

    Raises:
        UserError: no validation image, a single class, settings that describe no network, another number
            of class weights than of classes, more processes than squares in a batch, an image that cannot be read,
            nothing but ignored pixels to train or to validate on, or kornia is wanted and absent.
    """

    def __init__(
        self,
        data: ImageSet,
        parts: Parts,
        settings: Settings,
        *,
        device: str = "cpu",
        on_sample: Callable[[], None] | None = None,
        group: Group | None = None,
    ) -> None:
        if group is not None:
            _check_shares(min(settings.batch, len(parts.train)), settings, group.size)
        if not parts.validation:
            raise UserError(
                f"expected at least one validation image of {data.name}, got none: with {len(data)} in all, "
                "add images, or give the validation part another share"
            )
        if len(data.classes) < 2:
            raise UserError(
                f"expected at least two classes in {data.name}, got {data.classes[0]!r} alone: nothing is to be told "
                "apart; look at the masks, or name classes with --class"
            )
        if settings.augment != "none":
            require_kornia()
        # What the network refuses is told before images are read and a folder is made.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            build_model(settings, data.channels, len(data.classes))
        given = settings.weights
        if not isinstance(given, str) and len(given) != len(data.classes):
            raise UserError(f"expected {len(data.classes)} class weights, one a class, got {len(given)}")
        self.data, self.parts, self.settings, self.device, self._group = data, parts, settings, device, group
        self.samples = {
            "train": load_samples(data, parts.train, settings, on_sample),
            "validation": load_samples(data, parts.validation, settings, on_sample),
        }
        self.fingerprint = fingerprint([self.samples["train"], self.samples["validation"]])
        for name, samples in self.samples.items():
            if not any(bool((sample.mask != IGNORE).any()) for sample in samples):
                raise UserError(
                    f"every pixel of the {name} part of {data.name} is ignored; mend the masks or --ignore"
                )
        self.weights = _weights(settings, len(data.classes), self.samples["train"], device)
        self._stem_norms: list[float] = []

    @property
    def steps(self) -> int:
        """Steps an epoch. What does not fill a batch waits for another epoch, whose order is another."""
        return max(1, len(self.parts.train) // self.settings.batch)

    def build(self) -> UNet:
        """A new network on the device."""
        model = build_model(self.settings, self.data.channels, len(self.data.classes)).to(self.device)
        if self._group is not None:
            share_norms(model, self._group)
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW, without decay for biases and norms; its rate follows `Settings.rate`, set by `batches`."""
        decaying = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        groups = [
            {"params": decaying, "weight_decay": self.settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=self.settings.learning_rate, fused=True
        )
        return self._optimizer

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Squares of the training images in random order, augmented; the rate of the step that follows is set.

        Images are float32 ``(batch, channels, size, size)`` in channels-last layout, masks uint8.
        """
        settings, samples = self.settings, self.samples["train"]
        order = torch.randperm(len(samples)).tolist()
        total = self.steps * settings.epochs
        for step in range(self.steps):
            chosen = order[step * settings.batch : (step + 1) * settings.batch]
            squares = [square(samples[index], settings.size) for index in chosen]
            images = torch.stack([image for image, _ in squares]).float()
            share = None if self._group is None else self._group.share(len(chosen))
            masks = torch.stack([mask for _, mask in squares])
            images, masks = augment(images, masks, settings.augment, share)
            for group in self._optimizer.param_groups:
                # From the step's number alone, so that a resumed run goes on with the same rates.
                group["lr"] = settings.rate(((epoch - 1) * self.steps + step) / total)
            yield self._placed(images), masks.to(self.device)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy and Dice of a batch."""
        images, masks = batch
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
            logits = model(images)
        given = {} if self._group is None else {"total": self._group.total}
        return segmentation_loss(
            logits, masks, weights=self.weights, dice_share=self.settings.dice_share, **given
        )

    def backward(self, model: nn.Module, batch: Batch) -> float:
        """The gradients of a batch; the norm of the first layer's is kept for `evaluate`."""
        loss = self.loss(model, batch)
        loss.backward()
        # Several processes train a wrapped model.
        net = getattr(model, "module", model)
        if isinstance(net, UNet) and net.stem.weight.grad is not None:
            self._stem_norms.append(float(torch.linalg.vector_norm(net.stem.weight.grad)))
        return loss.item()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """After an epoch: what decides which one is kept, and how much gradient reaches the first layer.

        Returns:
            ``validation_loss``, what is trained on, the mean over batches of validation images by their number of
            images; ``validation_iou``, pooled over the images, the mean over the classes that occur;
            ``stem_gradient``, the mean over the epoch's steps of the Euclidean norm of the first convolution's
            gradient.
        """
        classes = len(self.data.classes)
        matrix, losses = np.zeros((classes, classes), np.int64), []
        samples = self.samples["validation"]
        pieces = list(_alike(samples, self.settings.batch))
        for indices in pieces if self._group is None else pieces[self._group.rank :: self._group.size]:
            logits = self._forward(model, [samples[index] for index in indices])
            masks = torch.stack([samples[index].mask for index in indices])
            loss = segmentation_loss(
                logits, masks.to(self.device), weights=self.weights, dice_share=self.settings.dice_share
            )
            losses.append(float(loss) * len(indices) / len(samples))
            predictions = logits.argmax(1).cpu().numpy()
            matrix += confusion(masks.numpy().reshape(-1, 1), predictions.reshape(-1, 1), classes)
        if self._group is not None:
            heard = [json.loads(text) for text in self._group.texts(json.dumps([losses, matrix.tolist()]))]
            # Counts and correctly rounded sums: the same numbers, whoever measured what.
            losses = [loss for others, _ in heard for loss in others]
            matrix = np.sum([np.array(counts) for _, counts in heard], axis=0)
        found = {
            "validation_loss": math.fsum(losses),
            "validation_iou": mean_known(iou(matrix)),
        }
        if self._stem_norms:
            found["stem_gradient"] = math.fsum(self._stem_norms) / len(self._stem_norms)
            self._stem_norms.clear()
        return found

    def counts(self, model: nn.Module, part: PartName) -> list[tuple[Sample, np.ndarray, Counts]]:
        """Every image of a part with its predicted mask (uint8) and all its counts, in the order of the part.

        The model is put in evaluation mode; see `layerlab.segmentation.metrics.measure`.
        """
        samples = self.samples.get(part) or load_samples(self.data, getattr(self.parts, part), self.settings)
        found: dict[int, tuple[Sample, np.ndarray, Counts]] = {}
        model.eval()
        for indices in _alike(samples, self.settings.batch):
            with torch.inference_mode():
                logits = self._forward(model, [samples[index] for index in indices])
                best = torch.softmax(logits.float(), 1).max(1)
            masks, confidences = best.indices.to(torch.uint8).cpu().numpy(), best.values.cpu().numpy()
            for index, mask, confidence in zip(indices, masks, confidences, strict=True):
                sample = samples[index]
                counts = count(sample.mask.numpy(), mask, len(self.data.classes), confidence=confidence)
                found[index] = sample, mask, counts
        return [found[index] for index in range(len(samples))]

    def _forward(self, model: nn.Module, samples: Sequence[Sample]) -> Tensor:
        """Logits of images of one size, in pieces where they are large."""
        images = self._placed(torch.stack([sample.image for sample in samples]).float())
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
            rows = [
                torch.cat([model(piece) for piece in row.split(PIECE, 3)], 3)
                for row in images.split(PIECE, 2)
            ]
        return torch.cat(rows, 2).float()

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)


def _check_shares(together: int, settings: Settings, processes: int) -> None:
    if together < processes:
        raise UserError(
            f"expected at most as many processes as squares in a batch, {together}, got {processes}; start fewer, or "
            "take a larger --batch"
        )
    deepest = -(-settings.size // (1 << (len(settings.widths) - 1)))
    if settings.norm == "batch" and together // processes * deepest**2 == 1:
        raise UserError(
            f"expected more than one value a channel at the deepest level of each process to train the batch norm, got "
            f"one square of {settings.size} pixels with {len(settings.widths)} levels; start fewer processes, or take "
            "larger squares"
        )


def _alike(samples: Sequence[Sample], batch: int) -> Iterable[list[int]]:
    """Indices of images of one size, at most ``batch`` together and fewer where they are large."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        by_size.setdefault(tuple(sample.mask.shape), []).append(index)
    for (height, width), indices in by_size.items():
        together = max(1, min(batch, PIECE * PIECE // (height * width)))
        for start in range(0, len(indices), together):
            yield indices[start : start + together]


def _weights(settings: Settings, classes: int, samples: Sequence[Sample], device: str) -> Tensor | None:
    if settings.weights == "equal":
        return None
    if settings.weights == "balanced":
        pixels = np.zeros(256, np.int64)
        for sample in samples:
            pixels += np.bincount(sample.mask.numpy().ravel(), minlength=256)
        return torch.tensor(balanced_weights(pixels[:classes].tolist()), device=device)
    return torch.tensor(settings.weights, device=device)
