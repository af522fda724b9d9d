"""The kernel of neighbour sampling: draws, weights, new names and sorted rows of one layer in one call.

Everything is linear in what is drawn, but for one pass over a bit for each node of the graph (300 KB for 2.4 million
nodes: the second-level cache holds it), which finds the new nodes in ascending order without a sort. Scratch is the
caller's and left as it was found, so that a sampler is made once and asked thousands of times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import allocating as allocating
from layerlab.lab.kernels.jit import inline as inline
from layerlab.lab.kernels.jit import kernel as kernel
from layerlab.lab.random import counted

U = np.uint64
_ONE, _SIX, _LAST = U(1), U(6), U(63)
_LOW, _HALF = U(0xFFFFFFFF), U(32)
_GAPS = (1 << 20, 1 << 18, 1 << 16, 1 << 14, 1 << 12, 1 << 10, 301, 132, 57, 23, 10, 4, 1)

# The place of the only bit that is set: its de Bruijn product's upper six bits differ for all 64.
_BRUIJN = U(0x03F79D71B4CB0A89)
_PLACES = np.zeros(64, np.int64)
for _place in range(64):
    _PLACES[(int(_BRUIJN) << _place) % 2**64 >> 58] = _place


@inline
def _lowest(word: Any) -> Any:
    """The place of the lowest bit that is set."""
    return _PLACES[((word & (~word + _ONE)) * _BRUIJN) >> U(58)]


@inline
def _marked(bits: Any, place: Any) -> Any:
    return (bits[U(place) >> _SIX] >> (U(place) & _LAST)) & _ONE != U(0)


@inline
def _mark(bits: Any, place: Any) -> None:
    bits[U(place) >> _SIX] |= _ONE << (U(place) & _LAST)


@inline
def _find(col: Any, start: Any, stop: Any, wanted: Any) -> Any:
    """The entry of the ascending ``col[start:stop]`` that is ``wanted``; -1 where there is none."""
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if col[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < stop and col[low] == wanted else -1


@allocating
def _draw(taken: Any, drawn: Any, among: Any, seed: Any, node: Any, layer: Any) -> None:
    """Mark ``drawn`` of ``among`` places, every subset being equally likely.

    Floyd's algorithm: place j, or an earlier one, for j = among - drawn ... among - 1. A place is uniform to the last
    bit: a product of which too few words fall on some places is drawn again (Lemire, 2019).
    """
    number, four = U(0), counted(seed, U(node), U(layer) << _HALF)
    for last in range(among - drawn, among):
        size = U(last + 1)
        while True:
            if number & U(3) == U(0) and number > U(0):
                four = counted(seed, U(node), (U(layer) << _HALF) | (number >> U(2)))
            product = four[number & U(3)] * size
            number += _ONE
            low = product & _LOW
            if low >= size or low >= ((_ONE << _HALF) - size) % size:
                break
        place = product >> _HALF
        _mark(taken, U(last) if _marked(taken, place) else place)


@inline
def _sort(names: Any, numbers: Any, start: Any, stop: Any) -> None:
    """Sort a row by name, its numbers with it; Shell's sort, with the gaps of Ciura (2001), and more for hubs.

    New nodes ascend already, so that a short row, whose only gap is 1, moves little.
    """
    for gap in _GAPS:
        for i in range(start + gap, stop):
            name, number = names[i], numbers[i]
            j = i
            while j >= start + gap and names[j - gap] > name:
                names[j], numbers[j] = names[j - gap], numbers[j - gap]
                j -= gap
            names[j], numbers[j] = name, number


@kernel
def begin(nodes: Any, position: Any) -> Any:
    """Name the nodes by their place; the first place that holds a node again, -1 where none does."""
    for i in range(len(nodes)):
        if position[nodes[i]] >= 0:
            return i
        position[nodes[i]] = i
    return -1


@kernel
def forget(nodes: Any, position: Any) -> None:
    """Leave the scratch as it was found."""
    for i in range(len(nodes)):
        position[nodes[i]] = -1


@kernel
def one_layer(
    crow: Any,
    col: Any,
    values: Any,
    nodes: Any,
    fanout: int,
    scaled: bool,
    seed: Any,
    layer: int,
    position: Any,
    seen: Any,
    taken: Any,
) -> Any:
    """The sampled rows ``nodes`` of an operator, columns renamed: the nodes first, then new ones, ascending.

    Args:
        crow, col, values: the operator, square, columns ascending within a row.
        nodes: int64; ``position[nodes[i]] == i``.
        fanout: entries to draw a row beside its self-loop, which is kept; -1 takes all.
        scaled: whether drawn values are divided by the probability of being drawn.
        seed, layer: of the draw; node v draws the words of counters (v, layer).
        position: int32, one a node, -1 where it has no name; new nodes get theirs.
        seen: uint64, a bit a node, all 0.
        taken: uint64, a bit for each entry of the longest row, all 0.

    Returns:
        Row offsets, columns and values of the rows, and the level's nodes: ``nodes`` and the new ones.
    """
    rows = len(nodes)
    offsets, loops = np.empty(rows + 1, np.int64), np.empty(rows, np.int64)
    offsets[0] = 0
    for i in range(rows):
        start, stop = np.int64(crow[nodes[i]]), np.int64(crow[nodes[i] + 1])
        loops[i] = _find(col, start, stop, nodes[i])
        own = 1 if loops[i] >= 0 else 0
        others = stop - start - own
        offsets[i + 1] = offsets[i] + own + (others if fanout < 0 or others <= fanout else fanout)
    total = offsets[rows]
    names, numbers = np.empty(total, np.int64), np.empty(total, values.dtype)
    for i in range(rows):
        start, stop, loop = np.int64(crow[nodes[i]]), np.int64(crow[nodes[i] + 1]), loops[i]
        others = stop - start - (1 if loop >= 0 else 0)
        at = offsets[i]
        if fanout < 0 or others <= fanout:
            for entry in range(start, stop):
                names[at], numbers[at] = col[entry], values[entry]
                at += 1
            continue
        if loop >= 0:
            names[at], numbers[at] = nodes[i], values[loop]
            at += 1
        if fanout == 0:
            continue
        scale = values.dtype.type(others / fanout) if scaled else values.dtype.type(1)
        _draw(taken, fanout, others, seed, nodes[i], layer)
        for word in range((others + 63) >> 6):
            bits = taken[word]
            taken[word] = U(0)
            while bits != U(0):
                entry = start + (word << 6) + _lowest(bits)
                bits &= bits - _ONE
                if loop >= 0 and entry >= loop:
                    entry += 1
                names[at], numbers[at] = col[entry], values[entry] * scale
                at += 1
    new = 0
    for entry in range(total):
        name = names[entry]
        if position[name] < 0 and not _marked(seen, name):
            _mark(seen, name)
            new += 1
    level = np.empty(rows + new, np.int64)
    level[:rows] = nodes
    place, word = rows, 0
    while place < rows + new:
        bits = seen[word]
        if bits != U(0):
            seen[word] = U(0)
            while bits != U(0):
                node = (word << 6) + _lowest(bits)
                bits &= bits - _ONE
                level[place] = node
                position[node] = place
                place += 1
        word += 1
    renamed = np.empty(total, np.int32)
    for i in range(rows):
        start, stop = offsets[i], offsets[i + 1]
        for entry in range(start, stop):
            renamed[entry] = position[names[entry]]
        _sort(renamed, numbers, start, stop)
    return offsets, renamed, numbers, level
