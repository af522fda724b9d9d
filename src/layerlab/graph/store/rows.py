"""From edges in any order to sorted rows without repeats, in as much memory as is allowed.

A counting sort: the edges are read once to count what each row gets, and once more for each run of rows that fits into
memory together; there every edge goes straight to its row. Nothing but two sequential files is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.graph.edges import INT32_MAX, plural
from layerlab.graph.store.arrays import ArrayWriter, read_pieces
from layerlab.graph.store.layout import ArrayFile

Tell = Callable[[float, str], None]
_PIECE = 1 << 21
_LEAST = 1 << 16  # entries of a run of rows, however little memory there is


@dataclass(frozen=True)
class Ends:
    """The edges as positions: ``source.npy`` and ``target.npy`` int32, perhaps ``weight.npy`` float64."""

    folder: Path
    files: dict[str, ArrayFile]
    num_nodes: int

    @property
    def size(self) -> int:
        """Edges as listed."""
        return self.files["source.npy"].shape[0]

    @property
    def weighted(self) -> bool:
        """Whether there are weights."""
        return "weight.npy" in self.files

    def pieces(self, *, swap: bool = False) -> Iterator[tuple[NDArray[Any], ...]]:
        """(source, target, weight) a few million at a time; an empty weight where there are none."""
        names = ["target.npy", "source.npy"] if swap else ["source.npy", "target.npy"]
        names += ["weight.npy"] if self.weighted else []
        streams = [read_pieces(self.folder / name, self.files[name], _PIECE) for name in names]
        for piece in zip(*streams, strict=True):
            yield piece if self.weighted else (*piece, np.empty(0))


@dataclass(frozen=True)
class Rows:
    """What became of the edges: how much is stored, and what merging did."""

    stored: int
    self_loops: int
    notes: tuple[str, ...]


def write_rows(
    ends: Ends, folder: Path, prefix: str, *, mirror: bool, swap: bool, memory: int, tell: Tell
) -> tuple[Rows, dict[str, ArrayFile]]:
    """Write offsets, columns and weights of the rows, and (without a prefix) the degrees.

    Args:
        ends: the edges.
        folder: where to.
        prefix: of the files' names.
        mirror: whether an edge is stored at both of its ends.
        swap: whether rows are targets: the transpose.
        memory: bytes that a run of rows may take.
        tell: told the fraction done.

    Raises:
        UserError: weights that sum to infinity.
    """
    import torch

    from layerlab.graph.store import kernels
    from layerlab.lab.kernels import threads

    n = ends.num_nodes
    if n >= INT32_MAX:
        raise UserError(f"expected fewer than {INT32_MAX} nodes, got {n}")
    parts = torch.get_num_threads()
    lengths, done = np.zeros(n, dtype=np.int64), 0
    even = [n * part // parts for part in range(parts + 1)]
    for source, target, _ in ends.pieces(swap=swap):
        threads.run(kernels.count, (source, target, mirror, lengths), even)
        done += source.size
        tell(0.15 * done / max(ends.size, 1), "counting the entries of each row")
    begin = np.concatenate([[0], np.cumsum(lengths)])
    del lengths
    runs = list(_runs(begin, max(_LEAST, memory // (12 if ends.weighted else 4))))
    found = np.zeros(kernels.COUNTERS, dtype=np.int64)
    files: dict[str, ArrayFile] = {}
    with (
        ArrayWriter(folder / f"{prefix}indptr.npy", np.int64) as offsets,
        ArrayWriter(folder / f"{prefix}indices.npy", np.int32) as indices,
        ArrayWriter(folder / f"{prefix}weights.npy", np.float64) as weights,
        ArrayWriter(folder / f"{prefix}degrees.npy", np.float64) as degrees,
    ):
        offsets.append(np.zeros(1, dtype=np.int64))
        for number, (low, high) in enumerate(runs):
            local = begin[low : high + 1] - begin[low]
            keys = np.empty(int(local[-1]), dtype=np.uint32)
            carried = np.empty(keys.size if ends.weighted else 0)
            cuts = threads.parts_of(local, 10 * keys.size) if keys.size else [0, high - low]
            places = local[:-1].copy()
            done = 0
            for source, target, weight in ends.pieces(swap=swap):
                threads.run(kernels.place, (source, target, weight, mirror, low, places, keys, carried), cuts)
                done += source.size
                share = (number + 0.6 * done / ends.size) / len(runs)
                tell(0.15 + 0.85 * share, f"sorting rows, part {number + 1} of {len(runs)}")
            counted, sums = np.zeros(high - low, dtype=np.int64), np.empty(high - low)
            each = np.zeros((len(cuts), kernels.COUNTERS), dtype=np.int64)
            threads.run(
                kernels.settle,
                (local, keys, carried, mirror, low, counted, sums, np.array(cuts, dtype=np.int64), each),
                cuts,
            )
            found += each.sum(axis=0)
            kernels.pack(local, counted, keys, carried)
            total = int(counted.sum())
            for start in range(0, total, _PIECE):
                piece = slice(start, min(start + _PIECE, total))
                indices.append(keys[piece].view(np.int32))
                if ends.weighted:
                    weights.append(carried[piece])
            offsets.append(np.cumsum(counted) + (indices.length - total))
            degrees.append(sums)
            tell(0.15 + 0.85 * (number + 1) / len(runs), f"sorting rows, part {number + 1} of {len(runs)}")
            del keys, carried
    if found[kernels.INFINITE]:
        raise UserError("the weights of parallel edges sum to infinity; scale the weights down")
    for name, writer in (
        ("indptr", offsets),
        ("indices", indices),
        ("weights", weights),
        ("degrees", degrees),
    ):
        files[f"{prefix}{name}.npy"] = writer.file
    unwanted = [f"{prefix}weights.npy"] if not ends.weighted else []
    unwanted += [f"{prefix}degrees.npy"] if prefix else []
    for name in unwanted:
        (folder / name).unlink()
        del files[name]
    return Rows(indices.length, int(found[kernels.SELF_LOOPS]), _notes(found, ends.size, mirror)), files


def _runs(begin: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Runs of rows of at most ``most`` entries, but at least a row."""
    low, n = 0, begin.size - 1
    while low < n:
        high = int(np.searchsorted(begin, begin[low] + most, side="right")) - 1
        high = min(max(high, low + 1), n)
        yield low, high
        low = high


def _notes(found: NDArray[np.int64], listed: int, mirror: bool) -> tuple[str, ...]:
    """What merging did, in the words of `Graph.from_edges`."""
    from layerlab.graph.store import kernels

    distinct, pairs, between = (int(found[at]) for at in (kernels.DISTINCT, kernels.PAIRS, kernels.BETWEEN))
    notes = []
    if repeats := listed - distinct:
        notes.append(f"merged {plural(repeats, 'duplicate edge')}")
    if mirror and 0 < (both := distinct - pairs) < between:
        notes.append(f"{both} of {plural(pairs, 'edge')} listed in both directions")
    if summed := int(found[kernels.SUMMED]):
        notes.append(f"{plural(summed, 'edge')} listed with differing weights, which were summed")
    return tuple(notes)
