"""Random numbers by counter: the number of an element depends on (seed, stream, element) and on nothing else.

Philox4x32-10 is a keyed bijection of 128-bit counters. No state is carried from one number to the next, so any part of
a stream can be drawn by any thread, in any order, and drawn again instead of being stored: same bits every time.

The seed is the key. The counter is (block, stream), 64 bits each, and one counter gives four 32-bit words. Elements are
dealt to words in groups of 64 that suit vector units: element e belongs to block ``16 (e // 64) + e % 16`` and is its
word ``(e // 16) % 4``.

Reference: Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011. This module imports
numba; import it where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from layerlab.errors import UserError

ROUNDS = 10
GROUP = 64  # elements
_LANES = GROUP // 4

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = _MULTIPLIERS
_WEYL_0, _WEYL_1 = _WEYL


def philox(counter: NDArray[np.uint32], key: NDArray[np.uint32], rounds: int = ROUNDS) -> NDArray[np.uint32]:
    """Philox4x32 of one or many counters, in numpy: the slow twin of what the kernels draw.

    Args:
        counter: ``(..., 4)`` uint32, least significant word first.
        key: ``(2,)`` uint32.
        rounds: 10 in the paper's recommendation.

    Returns:
        ``(..., 4)`` uint32.

    >>> [hex(word) for word in philox(np.zeros(4, np.uint32), np.zeros(2, np.uint32)).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = (counter[..., word].astype(np.uint64) for word in range(4))
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(rounds):
        even, odd = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (odd >> _HALF) ^ c1 ^ k0, odd & _LOW, (even >> _HALF) ^ c3 ^ k1, even & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(seed: int, stream: int, elements: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The random word of each element, ``(...)`` uint32, from the formula, element by element.

    Args:
        seed: 0 ... 2^64 - 1.
        stream: 0 ... 2^64 - 1; streams of one seed are independent.
        elements: non-negative integers of any shape.

    >>> words(1, 2, np.array([0, 1, 64, 0])).tolist()
    [3878945999, 3082076531, 1232243954, 3878945999]
    """
    block = (elements // GROUP * _LANES + elements % _LANES).astype(np.uint64)
    counter = np.empty((*np.shape(elements), 4), np.uint32)
    counter[..., 0], counter[..., 1] = block & _LOW, block >> _HALF
    counter[..., 2], counter[..., 3] = stream & 0xFFFFFFFF, stream >> 32
    drawn = philox(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32))
    word = (elements // _LANES % 4)[..., None]
    return np.take_along_axis(drawn, word, axis=-1)[..., 0]


def drop_threshold(p: float) -> int:
    """Elements whose word is below this number are dropped: a share p of all words, exact to 2^-33.

    Raises:
        UserError: p is not in [0, 1).

    >>> drop_threshold(0.5) == 2**31, drop_threshold(0.0)
    (True, 0)
    """
    if not 0.0 <= p < 1.0:
        raise UserError(f"expected a dropout probability in [0, 1), got {p}")
    return min(round(p * 2**32), 2**32 - 1)


def _fill_words(out: Any, seed: Any, stream: Any, first: Any, groups: Any) -> None:
    """``out[:64 groups] =`` the words of the elements from group ``first`` on; seed and stream are uint64."""
    stream_low, stream_high = stream & _LOW, stream >> _HALF
    for group in range(groups):
        block = np.uint64(first + group) * np.uint64(_LANES)
        # A group never crosses a multiple of 2^32, so the block's high word is the same in all lanes.
        low, high = block & _LOW, block >> _HALF
        start = group * GROUP
        for lane in range(_LANES):
            c0, c1, c2, c3 = low + np.uint64(lane), high, stream_low, stream_high
            k0, k1 = seed & _LOW, seed >> _HALF
            for _ in range(ROUNDS):
                even, odd = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
                c0, c1, c2, c3 = (odd >> _HALF) ^ c1 ^ k0, odd & _LOW, (even >> _HALF) ^ c3 ^ k1, even & _LOW
                k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
            out[start + lane] = np.uint32(c0)
            out[start + _LANES + lane] = np.uint32(c1)
            out[start + 2 * _LANES + lane] = np.uint32(c2)
            out[start + 3 * _LANES + lane] = np.uint32(c3)


# Not kept on disk by themselves: they become part of the kernels that draw, which are.
fill_words = njit(nogil=True, error_model="numpy")(_fill_words)


def _draw(scratch: Any, seed: Any, stream: Any, start: Any, stop: Any) -> Any:
    """Draw the words of elements ``start ... stop - 1``; that of element e is then ``scratch[e - start + shift]``.

    Args:
        scratch: uint32, at least ``stop - start + 2 * GROUP`` long.

    Returns:
        shift: groups are drawn whole.
    """
    first = start // GROUP
    fill_words(scratch, seed, stream, first, (stop + GROUP - 1) // GROUP - first)
    return start - first * GROUP


draw = njit(nogil=True, error_model="numpy")(_draw)


def _counted(seed: Any, block: Any, stream: Any) -> Any:
    """The four words of counter ``(block, stream)``, as uint64: for kernels that draw a few at a time.

    >>> low = np.uint64(1)
    >>> words = [int(word) for word in _counted(low, np.uint64(2), np.uint64(3))]
    >>> words == philox(np.array([2, 0, 3, 0], np.uint32), np.array([1, 0], np.uint32)).tolist()
    True
    """
    c0, c1, c2, c3 = block & _LOW, block >> _HALF, stream & _LOW, stream >> _HALF
    k0, k1 = seed & _LOW, seed >> _HALF
    for _ in range(ROUNDS):
        even, odd = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (odd >> _HALF) ^ c1 ^ k0, odd & _LOW, (even >> _HALF) ^ c3 ^ k1, even & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


counted = njit(nogil=True, error_model="numpy")(_counted)
