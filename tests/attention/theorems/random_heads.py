"""Heads, signals and kernels for hypothesis, and one measurement of a claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from layerlab.attention.theorems.convolution import Convolution
from layerlab.attention.theorems.pooling import Pool
from layerlab.attention.theorems.subjects import Head
from layerlab.claims import Claim, Outcome

NUMBERS = st.floats(-50, 50, allow_nan=False, width=32)


def measured(claim: Claim, subject: Any, seed: int = 0, **replaces: Any) -> Outcome:
    """One subject under a claim's measuring function."""
    generator = np.random.default_rng(seed)
    return Outcome(claim.relation, claim.measure(subject, generator, **replaces), seed)


@st.composite
def heads(draw: st.DrawFn, *, causal: bool | None = None, largest: float = 3.0) -> Head:
    """A head of up to 12 tokens: random, with equal tokens, or with zeros."""
    n, d, e = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    is_causal = draw(st.booleans()) if causal is None else causal
    m = n if is_causal else draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, largest]))
    q, k, v = (torch.from_numpy(generator.standard_normal(shape)) for shape in ((n, d), (m, d), (m, e)))
    repeat = draw(st.integers(1, n))
    return Head(scale * q[torch.arange(n) % repeat], scale * k, v, is_causal)


@st.composite
def signals(draw: st.DrawFn) -> torch.Tensor:
    """Up to 12 samples of any sign, zeros and equal ones among them."""
    values = draw(st.lists(NUMBERS | st.sampled_from([0.0, -0.0, 1.0]), min_size=1, max_size=12))
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Windows over a signal, with a gentle or a steep query."""
    return Pool(
        draw(signals()), draw(st.integers(0, 15)), draw(st.sampled_from([1e-3, 0.5, 1.0, 7.0, 100.0]))
    )


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Any taps, within and beyond the signal."""
    taps = draw(st.dictionaries(st.integers(-15, 15), NUMBERS, min_size=1, max_size=6))
    return Convolution(draw(signals()), {t: 0.0 if abs(w) < 1e-30 else w for t, w in taps.items()})
