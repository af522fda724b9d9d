"""Random chains of layers for the claims, and one measurement of a claim on one of them."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from layerlab.claims import Claim, Outcome
from layerlab.gradflow.theorems import subjects
from layerlab.gradflow.theorems.subjects import Activation, Affine, Chain, Network

ANY = settings(derandomize=True, deadline=None, max_examples=40)

NUMBERS = st.floats(-20, 20, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-30 else 0.0)
ACTIVATIONS: tuple[Activation, ...] = (
    *(subjects.SIGMOID, subjects.TANH, subjects.RELU, subjects.SOFTPLUS, subjects.ELU, subjects.SINE),
    *(subjects.IDENTITY, subjects.GELU, subjects.SILU, subjects.leaky_relu(0.1), subjects.leaky_relu(-2.5)),
)


def measured(claim: Claim, subject: object, seed: int = 0, **replaced: object) -> Outcome:
    return Outcome(claim.relation, claim.measure(subject, np.random.default_rng(seed), **replaced), seed)


@st.composite
def scalar_chains(draw: st.DrawFn, numbers: st.SearchStrategy[float] = NUMBERS, most: int = 25) -> Chain:
    depth = draw(st.integers(1, most))
    weights, biases = (draw(st.lists(numbers, min_size=depth, max_size=depth)) for _ in range(2))
    return subjects.scalar(weights, draw(numbers), draw(st.just(biases) | st.none()))


@st.composite
def matrices(draw: st.DrawFn, rows: int, columns: int) -> Tensor:
    """Gaussian, of any scale; sometimes sparse or of low rank."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = random.standard_normal((rows, columns)) * 10 ** draw(st.floats(-3, 1.5))
    kind = draw(st.sampled_from(("full", "sparse", "rank one")))
    if kind == "sparse":
        matrix *= random.random((rows, columns)) < 0.5
    elif kind == "rank one":
        matrix = np.outer(matrix[:, 0], random.standard_normal(columns))
    return torch.from_numpy(matrix)


@st.composite
def recurrences(draw: st.DrawFn) -> Chain:
    size = draw(st.integers(1, 5))
    weight = draw(matrices(size, size))
    x, bias = (draw(matrices(size, 1))[:, 0] for _ in range(2))
    return subjects.recurrent(weight, x, draw(st.integers(1, 15)), draw(st.just(bias) | st.none()))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    widths = draw(st.lists(st.integers(1, 6), min_size=2, max_size=8))
    maps = []
    for columns, rows in itertools.pairwise(widths):
        bias = draw(matrices(rows, 1))[:, 0]
        maps.append(Affine(draw(matrices(rows, columns)), draw(st.just(bias) | st.none())))
    chain = Chain(tuple(maps), draw(matrices(widths[0], 1))[:, 0])
    return Network(chain, tuple(draw(st.sampled_from(ACTIVATIONS)) for _ in maps))
