"""What a typed program that uses layerlab looks like: mypy --strict reads it in `make check`; nothing runs it.

`assert_type` fails where a public function has lost its type.
"""

from __future__ import annotations

from typing import assert_type

import torch
from torch import Tensor

import layerlab
from layerlab.attention import MultiheadAttention
from layerlab.claims import Claim, Measurement, Verdict, check, exact, rounding
from layerlab.errors import UserError
from layerlab.estimators import Bernoulli, estimate
from layerlab.graph import GCNConv, Graph, load
from layerlab.projection import Codebook, codebook
from layerlab.segmentation import UNet


def verdicts(claim: Claim, seed: int) -> list[Verdict]:
    return [entry.outcome.verdict for entry in check(claim, seed).checked]


def measured(value: float) -> Measurement:
    assert_type(exact("counts").value, float)
    return Measurement(value, 1.0, rounding(torch.float64, size=3, scale=1.0))


def hidden(folder: str) -> Tensor:
    try:
        data = load(folder)
    except UserError as error:
        raise SystemExit(str(error)) from None
    graph = assert_type(data.graph, Graph)
    assert_type(graph.num_nodes, int)
    layer = GCNConv(3, 4)
    return layer.forward(torch.zeros(graph.num_nodes, 3), graph)


def attended(x: Tensor) -> Tensor:
    output, weights = MultiheadAttention(8, 2, "linear").forward(x, x, x)
    assert_type(weights, Tensor | None)
    return output


def ascent(logits: Tensor) -> Tensor:
    found = estimate(lambda x: x.prod(-1), Bernoulli(logits), 64, torch.Generator())
    return found.gradient


def lines(dim: int) -> Codebook:
    made = codebook(dim, count=2 * dim)
    assert_type(made.vectors, Tensor)
    return made


def masks(images: Tensor) -> Tensor:
    return UNet(channels=1, classes=2).forward(images)


assert_type(layerlab.__version__, str)
