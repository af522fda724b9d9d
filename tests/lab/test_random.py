"""Philox: the authors' known answers, kernel against twin, chunks and threads, and the statistics of what is drawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from layerlab.errors import UserError
from layerlab.lab import random
from layerlab.lab.random import GROUP, draw, drop_threshold, fill_words, philox, words

# From the Random123 distribution's file of known answers: counter, key, result of philox4x32-10.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def parse(text: str) -> NDArray[np.uint32]:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


def kernel(seed: int, stream: int, start: int, stop: int) -> NDArray[np.uint32]:
    scratch = np.zeros(stop - start + 2 * GROUP, np.uint32)
    shift = draw(scratch, np.uint64(seed), np.uint64(stream), start, stop)
    return scratch[shift : shift + stop - start]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    assert philox(parse(counter), parse(key)).tolist() == parse(expected).tolist()


def test_the_kernel_gives_the_known_answers() -> None:
    # The counter 243f6a88 85a308d3 is lane 8 of group 0x85a308d3243f6a8; the stream 0370734413198a2e, likewise the key.
    out = np.zeros(GROUP, np.uint32)
    fill_words(out, np.uint64(0x299F31D0A4093822), np.uint64(0x0370734413198A2E), 0x85A308D3243F6A88 // 16, 1)
    assert out[8::16].tolist() == parse(KNOWN[2][2]).tolist()


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("start", [0, 5, 64, 2**32 * 4 - 70, 2**40 + 17])
def test_kernel_equals_twin(seed: int, start: int) -> None:
    for length in (0, 1, 63, 64, 65, 200):
        elements = np.arange(start, start + length)
        assert np.array_equal(
            kernel(seed, seed ^ 12345, start, start + length), words(seed, seed ^ 12345, elements)
        )


def test_python_and_compiled_kernel_agree() -> None:
    out = np.zeros(2 * GROUP, np.uint32)
    random._fill_words(out, np.uint64(7), np.uint64(9), 3, 2)
    assert np.array_equal(out, kernel(7, 9, 3 * GROUP, 5 * GROUP))


def test_same_bits_in_any_chunks_and_on_any_threads() -> None:
    whole = kernel(42, 3, 0, 10_000)
    cuts = [0, 1, 63, 64, 1000, 1001, 4096, 9_999, 10_000]
    parts = list(pairwise(cuts))
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda part: kernel(42, 3, *part), reversed(parts)))
    assert np.array_equal(np.concatenate(drawn[::-1]), whole)


N = 1 << 20


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.6, 0.9])
def test_the_share_of_dropped_elements_is_binomial(p: float) -> None:
    threshold = drop_threshold(p)
    counts = [int((kernel(seed, 0, 0, N // 16) < threshold).sum()) for seed in range(32)]
    n = N // 16
    z = (np.array(counts) - n * p) / np.sqrt(n * p * (1 - p))
    assert abs(z.sum()) / np.sqrt(len(z)) < 4.5
    # The spread over seeds is binomial, too: the sum of squares is chi-squared with 32 degrees of freedom.
    assert 1e-5 < stats.chi2.cdf(float((z**2).sum()), len(z)) < 1 - 1e-5


def test_bytes_are_uniform() -> None:
    drawn = kernel(1, 1, 0, N).view(np.uint8).reshape(-1, 4)
    for column in drawn.T:
        assert stats.chisquare(np.bincount(column, minlength=256)).pvalue > 1e-5


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """In standard deviations: that of two independent uniform sequences is about 1 / sqrt(n)."""
    return float(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a))


@pytest.mark.parametrize("lag", [1, 2, 4, 8, 16, 32, 48, 64, 128, 1433])
def test_elements_are_uncorrelated(lag: int) -> None:
    drawn = kernel(2, 0, 0, N // 4).astype(np.float64)
    assert abs(correlation(drawn[:-lag], drawn[lag:])) < 5
    kept = (drawn >= 2**31).astype(np.float64)
    assert abs(correlation(kept[:-lag], kept[lag:])) < 5


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((0, 0), (1, 0)),
        ((0, 0), (0, 1)),
        ((0, 1), (1, 0)),
        ((0, 0), (2**32, 0)),
        ((0, 0), (0, 2**32)),
        ((2**63 - 1, 0), (2**63 - 2, 0)),
    ],
)
def test_neighbouring_seeds_and_streams_are_independent(
    left: tuple[int, int], right: tuple[int, int]
) -> None:
    a, b = kernel(*left, 0, N // 4), kernel(*right, 0, N // 4)
    # Equal words are as rare as chance has them: 2^18 pairs, 2^32 values.
    assert int((a == b).sum()) <= 2
    assert abs(correlation(a.astype(np.float64), b.astype(np.float64))) < 5
    table = np.zeros((16, 16))
    np.add.at(table, (a >> 28, b >> 28), 1)
    assert stats.chisquare(table.ravel()).pvalue > 1e-5


def test_thresholds() -> None:
    assert drop_threshold(0.0) == 0
    assert drop_threshold(1 - 1e-12) == 2**32 - 1
    for p in (1.0, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"\[0, 1\)"):
            drop_threshold(p)
