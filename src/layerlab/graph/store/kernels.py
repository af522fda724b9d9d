"""Counting sort of edges into rows, in compiled code. This module imports numba; import it where it is used.

A key is a column and, in its lowest bit, the orientation in which the edge was listed: sorting the keys of a row puts
repeats side by side, and what repeats what can be counted as `Graph.from_edges` counts it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlab.lab.kernels.jit import kernel

# What `settle` counts, by position.
DISTINCT, PAIRS, BETWEEN, SELF_LOOPS, SUMMED, INFINITE, COUNTERS = range(7)


@kernel
def mark(bits: Any, ids: Any) -> None:
    """Set the bit of each id; an id below 0 or beyond the bits is for the caller to see beforehand."""
    for i in range(ids.size):
        at = ids[i]
        bits[at >> 6] |= np.uint64(1) << np.uint64(at & 63)


@kernel
def rank(bits: Any, before: Any, ids: Any, out: Any) -> None:
    """How many bits are set below each id; ``before`` has the number below each word."""
    for i in range(ids.size):
        at = ids[i]
        word = bits[at >> 6] & ((np.uint64(1) << np.uint64(at & 63)) - np.uint64(1))
        count = before[at >> 6]
        while word:
            word &= word - np.uint64(1)
            count += 1
        out[i] = count


@kernel
def count(source: Any, target: Any, mirror: bool, lengths: Any, first: int, last: int) -> None:
    """Count the edges of each row first … last−1; with ``mirror`` an edge counts at both of its ends."""
    for i in range(source.size):
        u, v = source[i], target[i]
        if first <= u < last:
            lengths[u] += 1
        if mirror and u != v and first <= v < last:
            lengths[v] += 1


@kernel
def place(
    source: Any,
    target: Any,
    weight: Any,
    mirror: bool,
    low: int,
    places: Any,
    keys: Any,
    weights: Any,
    first: int,
    last: int,
) -> None:
    """Put the key (and weight) of each edge where the next free place of its row is; rows count from ``low``."""
    weighted = weights.size > 0
    for i in range(source.size):
        u, v = source[i], target[i]
        swapped = 1 if mirror and u > v else 0
        row = u - low
        if first <= row < last:
            at = places[row]
            keys[at] = 2 * np.int64(v) + swapped
            if weighted:
                weights[at] = weight[i]
            places[row] = at + 1
        row = v - low
        if mirror and u != v and first <= row < last:
            at = places[row]
            keys[at] = 2 * np.int64(u) + swapped
            if weighted:
                weights[at] = weight[i]
            places[row] = at + 1


@kernel
def settle(
    offsets: Any,
    keys: Any,
    weights: Any,
    mirror: bool,
    low: int,
    lengths: Any,
    degrees: Any,
    cuts: Any,
    found: Any,
    first: int,
    last: int,
) -> None:
    """Sort each row and merge its repeats; columns stay at the row's beginning, ``lengths`` of them.

    Distinct weights of one pair are summed from the smallest on, so that the sum depends on no order.
    """
    part = 0
    while cuts[part] != first:
        part += 1
    weighted = weights.size > 0
    for row in range(first, last):
        begin, end = offsets[row], offsets[row + 1]
        own = keys[begin:end]
        if weighted:
            order = np.argsort(own)
            own[:] = own[order].copy()
            carried = weights[begin:end]
            carried[:] = carried[order].copy()
        else:
            own.sort()
        here, kept, at = row + low, 0, 0
        degree = 0.0
        while at < own.size:
            column = own[at] >> 1
            stop, orientations = at + 1, 1
            while stop < own.size and own[stop] >> 1 == column:
                orientations += own[stop] != own[stop - 1]
                stop += 1
            counted = not mirror or here <= column
            if counted:
                found[part, DISTINCT] += orientations
                found[part, PAIRS] += 1
                found[part, BETWEEN] += here != column
            if here == column:
                found[part, SELF_LOOPS] += 1
            if weighted:
                group = np.sort(weights[begin + at : begin + stop])
                total, summands = group[0], 1
                for i in range(1, group.size):
                    if group[i] != group[i - 1]:
                        total += group[i]
                        summands += 1
                if counted and summands > 1:
                    found[part, SUMMED] += 1
                if not np.isfinite(total):
                    found[part, INFINITE] += 1
                weights[begin + kept] = total
                degree += total
            own[kept] = column
            kept += 1
            at = stop
        lengths[row] = kept
        degrees[row] = degree if weighted else kept


@kernel
def pack(offsets: Any, lengths: Any, keys: Any, weights: Any) -> None:
    """Close the gaps that merging left behind the rows."""
    to = 0
    weighted = weights.size > 0
    for row in range(lengths.size):
        begin = offsets[row]
        for i in range(begin, begin + lengths[row]):
            keys[to] = keys[i]
            if weighted:
                weights[to] = weights[i]
            to += 1
