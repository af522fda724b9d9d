"""Losses by name, with random targets: what a gradient looks like where no data are at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerlab.errors import UserError
from layerlab.lab.subjects import load, user_code

Loss = Callable[[Tensor], Tensor]


def mean_squared_error(seed: int) -> Loss:
    """ℓ(y) = mean of (y − t)², with t standard normal in the shape of y.

    >>> loss = mean_squared_error(0)
    >>> bool(loss(torch.zeros(50, 40)) < 1.1), bool(loss(torch.full((50, 40), 9.0)) > 80)
    (True, True)
    """

    def loss(y: Tensor) -> Tensor:
        target = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return functional.mse_loss(y, target.to(y))

    return loss


def cross_entropy(seed: int) -> Loss:
    """ℓ(y) = mean of −log softmax(y)_t, with classes t drawn uniformly.

    The classes are along the last dimension of (…, classes), and along the second of images, (B, classes, H, W).

    Raises:
        UserError: when called with an output that has no dimension of classes.

    >>> round(float(cross_entropy(0)(torch.zeros(5, 3))), 4)  # log 3
    1.0986
    """

    def loss(y: Tensor) -> Tensor:
        if y.ndim < 2:
            raise UserError(
                f"cross-entropy expects an output (samples, classes), got shape {tuple(y.shape)}; use --loss mse"
            )
        logits = y if y.ndim >= 4 else y.flatten(0, -2)
        shape = (logits.shape[0], *logits.shape[2:])
        target = torch.randint(logits.shape[1], shape, generator=torch.Generator().manual_seed(seed))
        return functional.cross_entropy(logits, target.to(y.device))

    return loss


NAMED: dict[str, tuple[Callable[[int], Loss], str]] = {
    "mse": (mean_squared_error, "mean squared error against random targets"),
    "cross-entropy": (cross_entropy, "cross-entropy against random classes"),
}
"""Losses by name: how they are made from a seed, and what they are in words."""


def loss_of(text: str, seed: int) -> tuple[Loss, str]:
    """The loss that ``text`` names, and what it is in words.

    Args:
        text: "mse", "cross-entropy", or ``FILE.py:FUNCTION``: a function of the output that returns one number. Its
            file is executed.
        seed: of the targets.

    Raises:
        UserError: no such name, file or function. The loss itself raises `UserError` where the function raises (with
            file and line) or returns something else than one number.
    """
    if text in NAMED:
        make, words = NAMED[text]
        return make(seed), words
    if ":" not in text:
        raise UserError(f"expected --loss {', '.join(NAMED)} or FILE.py:FUNCTION, got {text!r}")
    function: Any = load(text)
    if not callable(function):
        raise UserError(f"{text} is of type {type(function).__name__}; expected a function of the output")

    def loss(y: Tensor) -> Tensor:
        with user_code(f"the loss {text}, called with an output of shape {tuple(y.shape)}, raised"):
            value = function(y)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"the loss {text} returned {came}; expected a tensor with one real number")
        if not value.requires_grad:
            raise UserError(
                f"the loss {text} does not depend on the output it is given; compute it from that"
            )
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"the loss {text} is {float(value.detach())} at this output")
        return value.reshape(())

    return loss, f"the loss {text}"
