"""Tasks small enough to be learnt in seconds, each a seeded stream of batches; no data are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).parents[2]

Batch = tuple[tuple[Tensor, ...], Tensor]
"""What the model is called with, and the targets."""


@dataclass(frozen=True)
class Task:
    """A stream of batches.

    Attributes:
        draw: (samples, length, generator) to a batch.
        tokens: number of different tokens; 0 where a token is a vector of ``features`` numbers.
        features: see there.
        outputs: classes, or numbers for a task of real numbers.
        pooled: one answer for a sequence, not for a token.
    """

    draw: Callable[[int, int, torch.Generator], Batch]
    tokens: int
    features: int
    outputs: int
    pooled: bool = False

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy for classes, mean square for numbers."""
        if target.is_floating_point():
            return functional.mse_loss(output, target)
        return functional.cross_entropy(output.flatten(0, -2), target.flatten(), ignore_index=-1)

    def score(self, output: Tensor, target: Tensor) -> float:
        """Accuracy, or 1 − (mean square error)/(variance)."""
        if target.is_floating_point():
            return float(1 - (output - target).square().mean() / target.var())
        counted = target >= 0
        return float((output.argmax(-1) == target)[counted].double().mean())


# Seven segments of a display: top, upper left, upper right, middle, lower left, lower right, bottom.
_SEGMENTS = (
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
)


def _digit(digit: int) -> Tensor:
    """A digit of a display, 11 rows of 7."""
    image = torch.zeros(11, 7)
    lit = [segment == "1" for segment in _SEGMENTS[digit]]
    places = (
        (slice(0, 1), slice(1, 6)),
        (slice(1, 5), slice(0, 1)),
        (slice(1, 5), slice(6, 7)),
        (slice(5, 6), slice(1, 6)),
        (slice(6, 10), slice(0, 1)),
        (slice(6, 10), slice(6, 7)),
        (slice(10, 11), slice(1, 6)),
    )
    for on, (rows, columns) in zip(lit, places, strict=True):
        image[rows, columns] = float(on)
    return image


def digits(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Digits of a display, shifted in 16 × 16 pixels and with noise, as ``length`` square patches; which digit."""
    images = torch.zeros(samples, 16, 16)
    labels = torch.randint(10, (samples,), generator=generator)
    down = torch.randint(3, (samples,), generator=generator).tolist()
    right = torch.randint(4, (samples,), generator=generator).tolist()
    for image, label, i, j in zip(images, labels.tolist(), down, right, strict=True):
        image[1 + i : 12 + i, 3 + j : 10 + j] = _digit(label)
    images = images + 0.2 * torch.randn(images.shape, generator=generator)
    side = round((256 / length) ** 0.5)
    patches = images.unfold(1, side, side).unfold(2, side, side).reshape(samples, length, side * side)
    return (patches,), labels[:, None]


def groups(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Each token has a kind of 8 and a vote of 2; every position answers how most tokens of its kind vote."""
    kind = torch.randint(8, (samples, length), generator=generator)
    leaning = torch.randint(2, (samples, 8), generator=generator)
    loyal = (torch.rand(samples, length, generator=generator) < 0.85).long()
    answer = leaning.gather(1, kind)
    vote = torch.where(loyal == 1, answer, 1 - answer)
    return (2 * kind + vote,), answer


def reversal(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Sixteen tokens; position i answers the token at the mirrored position."""
    tokens = torch.randint(16, (samples, length), generator=generator)
    return (tokens,), tokens.flip(1)


def ranks(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Numbers in [0, 1]; each answers its rank among the others, over the length."""
    numbers = torch.rand(samples, length, 1, generator=generator)
    return (numbers,), numbers.argsort(1).argsort(1).float() / length


def waves(samples: int, length: int, generator: torch.Generator) -> Batch:
    """A sum of three sines with noise; the sum without noise."""
    time = torch.arange(length) / length
    frequency = 1 + 7 * torch.rand(samples, 3, 1, generator=generator)
    phase = 2 * torch.pi * torch.rand(samples, 3, 1, generator=generator)
    clean = torch.sin(2 * torch.pi * frequency * time + phase).sum(1)[..., None]
    return (clean + torch.randn(clean.shape, generator=generator),), clean


def recall(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Key, value, key, value, …; after a key that was seen before, the value that followed it (-1: not asked)."""
    keys = torch.randint(8, (samples, length // 2), generator=generator)
    table = torch.randint(8, (samples, 8), generator=generator)
    values = table.gather(1, keys)
    tokens = torch.stack((keys, 8 + values), 2).flatten(1)
    seen = (keys[:, :, None] == keys[:, None, :]).tril(-1).any(2)
    target = torch.full((samples, length), -1)
    target[:, 0::2] = torch.where(seen, values, -1)
    return (tokens,), target


def _corpus() -> Tensor:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    return torch.tensor([min(ord(letter), 127) for letter in text])


def letters(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Pieces of the license's text; each letter answers the next."""
    text = _corpus()
    starts = torch.randint(len(text) - length - 1, (samples, 1), generator=generator)
    pieces = text[starts + torch.arange(length + 1)]
    return (pieces[:, :-1],), pieces[:, 1:]


def sorting(samples: int, length: int, generator: torch.Generator) -> Batch:
    """Source tokens and the sorted ones shifted by a begin sign (teacher forcing); the sorted ones."""
    tokens = torch.randint(15, (samples, length), generator=generator)
    answer = tokens.sort(1).values
    begun = torch.cat((torch.full((samples, 1), 15), answer[:, :-1]), 1)
    return (tokens, begun), answer


TASKS = {
    "digits-64": Task(digits, 0, 4, 10, pooled=True),
    "digits-16": Task(digits, 0, 16, 10, pooled=True),
    "groups": Task(groups, 16, 0, 2),
    "reversal": Task(reversal, 16, 0, 16),
    "ranks": Task(ranks, 0, 1, 1),
    "waves": Task(waves, 0, 1, 1),
    "recall": Task(recall, 16, 0, 16),
    "letters": Task(letters, 128, 0, 128),
    "sorting": Task(sorting, 16, 0, 16),
}
