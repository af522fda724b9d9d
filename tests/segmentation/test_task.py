"""What a training of this room does in an epoch: batches, rates, losses, weights, and what it measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import Shapes
from torch import nn

from layerlab.errors import UserError
from layerlab.lab.training import fit
from layerlab.segmentation import task as task_module
from layerlab.segmentation.dataset import IGNORE, Parts
from layerlab.segmentation.losses import segmentation_loss
from layerlab.segmentation.metrics import confusion, iou, mean_known
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.task import SegmentationTask, build_model, schedule_for

TINY = Settings(widths=(2, 4), size=16, batch=4, epochs=3, learning_rate=0.02)


def task(settings: Settings = TINY, **shapes: int) -> SegmentationTask:
    data = Shapes(**shapes)
    return SegmentationTask(data, data.parts(0), settings)


def test_an_epoch_sees_every_image_once_at_falling_and_rising_rates() -> None:
    found = task(count=13)  # 9 to train on: two batches of 4, one image waits
    optimizer = found.optimizer(found.build())
    rates = []
    for epoch in (1, 2, 3):
        torch.manual_seed(epoch)
        images = []
        for batch, masks in found.batches(epoch):
            assert batch.shape == (4, 1, 16, 16)
            assert batch.is_contiguous(memory_format=torch.channels_last)
            assert masks.dtype == torch.uint8
            images += [image.numpy().tobytes() for image in batch]
            rates.append(optimizer.param_groups[0]["lr"])
            assert optimizer.param_groups[1]["lr"] == rates[-1]
        assert len(set(images)) == 8
    assert found.steps == 2
    assert rates == [TINY.rate(step / 6) for step in range(6)]


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    found = task(replace(TINY, weight_decay=0.5))
    model = found.build()
    groups = found.optimizer(model).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(p.ndim == 4 for p in groups[0]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_evaluation_equals_one_image_at_a_time() -> None:
    found = task(validation=7, height=20, width=24)
    torch.manual_seed(0)
    model = found.build().eval()
    with torch.no_grad():
        metrics = found.evaluate(model)
        matrix = np.zeros((3, 3), np.int64)
        for sample in found.samples["validation"]:
            logits = model(sample.image[None].float())
            matrix += confusion(sample.mask.numpy(), logits[0].argmax(0).numpy(), 3)
    assert metrics["validation_iou"] == mean_known(iou(matrix))
    # Dice of images together is not the mean of theirs; cross-entropy is, when as many pixels count in each.
    other = task(replace(TINY, dice_share=0.0), validation=7, height=20, width=24)
    with torch.no_grad():
        loss = other.evaluate(model)["validation_loss"]
        expected = [
            segmentation_loss(model(s.image[None].float()), s.mask[None], dice_share=0.0).item()
            for s in other.samples["validation"]
        ]
    assert loss == pytest.approx(float(np.mean(expected)), rel=1e-5)


def test_the_gradient_at_the_first_layer_is_that_of_the_epoch() -> None:
    found = task()
    model = found.build()
    found.optimizer(model)
    norms = []
    for batch in found.batches(1):
        model.zero_grad()
        found.backward(model, batch)
        assert model.stem.weight.grad is not None
        norms.append(float(model.stem.weight.grad.square().sum().sqrt()))
    model.eval()
    with torch.no_grad():
        assert found.evaluate(model)["stem_gradient"] == pytest.approx(float(np.mean(norms)))
        assert "stem_gradient" not in found.evaluate(model)


def test_large_images_are_measured_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    class Brightness(nn.Module):
        """Answers by the pixel alone, so pieces change nothing; remembers what it was shown."""

        shapes: list[tuple[int, ...]] = []  # noqa: RUF012 (the test's own)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.shapes.append(tuple(images.shape[2:]))
            return torch.cat([0.5 - images, images - 0.5, -images], 1)

    found = task(replace(TINY, resize=False), height=20, width=27)
    whole = [mask for _, mask, _ in found.counts(Brightness(), "validation")]
    monkeypatch.setattr(task_module, "PIECE", 10)
    model = Brightness()
    model.shapes.clear()
    pieces = [mask for _, mask, _ in found.counts(model, "validation")]
    assert all((a == b).all() for a, b in zip(whole, pieces, strict=True))
    assert set(model.shapes) == {(10, 10), (10, 7)}


def test_class_weights() -> None:
    assert task().weights is None
    given = task(replace(TINY, weights=(1.0, 2.0, 3.0)))
    assert given.weights is not None
    assert given.weights.tolist() == [1.0, 2.0, 3.0]
    balanced = task(replace(TINY, weights="balanced"))
    assert balanced.weights is not None
    pixels = [sum(int((sample.mask == k).sum()) for sample in balanced.samples["train"]) for k in range(3)]
    assert balanced.weights[0] == pytest.approx(sorted(pixels)[1] / pixels[0])
    with pytest.raises(UserError, match="expected 3 class weights, one a class, got 2"):
        task(replace(TINY, weights=(1.0, 2.0)))


def test_discs_and_squares_are_learnt() -> None:
    settings = replace(TINY, widths=(4, 8), epochs=25)
    found = task(settings, count=40, validation=8)
    result = fit(found, schedule_for(settings))
    assert result.metrics["validation_iou"] > 0.8
    assert result.history[0]["validation_iou"] < 0.6


@pytest.mark.parametrize("settings", [replace(TINY, size=1, norm="group"), replace(TINY, size=5, batch=100)])
def test_odd_sizes_train(settings: Settings) -> None:
    found = task(settings, height=1, width=1) if settings.size == 1 else task(settings, height=9, width=31)
    assert found.steps in (1, 2)
    assert fit(found, schedule_for(settings)).best_epoch >= 1


def test_what_cannot_be_trained_on_is_refused() -> None:
    data = Shapes(count=1)

    class Alone(Shapes):
        classes = ("ground",)

    with pytest.raises(UserError, match="at least two classes in shapes, got 'ground' alone"):
        SegmentationTask(Alone(), Parts((0,), (1,)), TINY)
    with pytest.raises(UserError, match="at least one validation image of shapes, got none: with 1 in all"):
        SegmentationTask(data, Parts((0,), ()), TINY)

    class Blank(Shapes):
        def read(self, index: int):  # type: ignore[no-untyped-def]
            image, mask = super().read(index)
            return image, np.full_like(mask, IGNORE)

    with pytest.raises(UserError, match="every pixel of the train part of shapes is ignored"):
        SegmentationTask(Blank(), Blank().parts(0), TINY)
    with pytest.raises(UserError, match="skip"):
        build_model(replace(TINY, skips="some"), 3, 2)
