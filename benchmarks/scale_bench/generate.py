"""A seeded graph of the size of ogbn-products with planted classes, written in pieces: never all of it in memory.

    python -m benchmarks.scale_bench.generate OUT --nodes 2400000 --edges 62000000

OUT gets ``edges.parquet`` (source, target; each edge once, in no order), ``nodes.parquet`` (id, label, split, in a
random order of the ids) and ``features.npy`` (a row for each row of the node table).

The model is a degree-corrected block model: an edge's first end is drawn in proportion to the nodes' weights, which
follow a power law; the second with probability ``within`` from the same class, else from all nodes. Features are the
class's centre plus white noise. As pairs are drawn with repetition, a few per cent of the edges are repeats; so many
more are drawn that ``edges`` distinct ones are expected.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 21


@dataclass(frozen=True)
class Shape:
    """What is generated; the defaults are of ogbn-products' size.

    Attributes:
        nodes: n.
        edges: undirected edges drawn, repeats included.
        classes: planted ones, of uneven size.
        columns: of the features.
        train, validation: nodes of the split; the others are tested.
        exponent: of the power law of the degrees.
        within: share of the edges whose second end is drawn from the first one's class.
        signal: length of a class's centre; the noise has standard deviation 1 in each column.
        seed: of everything.
    """

    nodes: int = 2_400_000
    edges: int = 62_000_000
    classes: int = 47
    columns: int = 100
    train: int = 196_000
    validation: int = 39_000
    exponent: float = 2.6
    within: float = 0.7
    signal: float = 1.5
    seed: int = 0


class Blocks:
    """The planted classes and the nodes' weights: where the ends of edges are drawn from."""

    def __init__(self, shape: Shape) -> None:
        generator = np.random.default_rng([shape.seed, 0])
        shares = 1.0 / np.arange(3, shape.classes + 3)
        self.labels = generator.choice(shape.classes, shape.nodes, p=shares / shares.sum()).astype(np.int32)
        # The k-th largest of n values of a power law; the offset keeps the largest near 1,000 times the mean.
        ranks = np.arange(shape.nodes) + max(1.0, shape.nodes / 5_000)
        weights = ranks ** (-1.0 / (shape.exponent - 1.0))
        generator.shuffle(weights)
        # In the order of the classes, so that a class is a stretch of one cumulative sum.
        self.order = np.argsort(self.labels, kind="stable").astype(np.int32)
        self.sums = np.concatenate([[0.0], np.cumsum(weights[self.order])])
        self.starts = np.searchsorted(self.labels[self.order], np.arange(shape.classes + 1))

    def ends(
        self, generator: np.random.Generator, count: int, within: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """``count`` edges."""
        # Sorted: neighbouring look-ups then share their cache lines. The second ends are in random order all the same.
        source = self._nodes(np.sort(generator.random(count)) * self.sums[-1])
        classes = self.labels[source]
        low, high = self.sums[self.starts[classes]], self.sums[self.starts[classes + 1]]
        everywhere = generator.random(count) >= within
        low[everywhere], high[everywhere] = 0.0, self.sums[-1]
        target = self._nodes(low + generator.random(count) * (high - low))
        mixed = generator.permutation(count)
        return source[mixed], target[mixed]

    def _nodes(self, places: NDArray[np.float64]) -> NDArray[np.int32]:
        at = np.searchsorted(self.sums, places, side="right") - 1
        return self.order[np.minimum(at, self.order.size - 1)]


def write_edges(shape: Shape, blocks: Blocks, file: Path) -> None:
    """``edges.parquet``, a row group for each piece."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("source", pa.int32()), ("target", pa.int32())])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for piece, begin in enumerate(range(0, shape.edges, _PIECE)):
            generator = np.random.default_rng([shape.seed, 1, piece])
            ends = blocks.ends(generator, min(_PIECE, shape.edges - begin), shape.within)
            writer.write_table(pa.table(list(map(pa.array, ends)), schema=schema))


def write_nodes(shape: Shape, blocks: Blocks, folder: Path) -> None:
    """``nodes.parquet`` and ``features.npy``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng([shape.seed, 2])
    order = generator.permutation(shape.nodes).astype(np.int32)
    parts = np.full(shape.nodes, 2, dtype=np.int8)
    parts[: shape.train] = 0
    parts[shape.train : shape.train + shape.validation] = 1
    generator.shuffle(parts)
    centres = generator.standard_normal((shape.classes, shape.columns)).astype(np.float32)
    centres *= shape.signal / np.linalg.norm(centres, axis=1, keepdims=True)
    names = pa.array(["train", "validation", "test"])
    features = np.lib.format.open_memmap(
        folder / "features.npy", mode="w+", dtype=np.float32, shape=(shape.nodes, shape.columns)
    )
    schema = pa.schema([("id", pa.int32()), ("label", pa.int32()), ("split", pa.string())])
    with pq.ParquetWriter(folder / "nodes.parquet", schema, compression="zstd") as writer:
        for begin in range(0, shape.nodes, 1 << 16):
            rows = order[begin : begin + (1 << 16)]
            labels = blocks.labels[rows]
            split = names.take(pa.array(parts[rows]))
            writer.write_table(pa.table([pa.array(rows), pa.array(labels), split], schema=schema))
            noise = generator.standard_normal((rows.size, shape.columns), dtype=np.float32)
            features[begin : begin + rows.size] = centres[labels] + noise
    features.flush()


def generate(shape: Shape, folder: Path) -> None:
    """Write the three files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = Blocks(shape)
    write_nodes(shape, blocks, folder)
    write_edges(shape, blocks, folder / "edges.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description="A seeded graph of the size of ogbn-products.")
    parser.add_argument("out", type=Path)
    for name in ("nodes", "edges", "classes", "columns", "train", "validation", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape, name))
    given = vars(parser.parse_args())
    generate(Shape(**{name: value for name, value in given.items() if name != "out"}), given["out"])


if __name__ == "__main__":
    main()
