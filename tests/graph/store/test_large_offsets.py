"""More than 2^31 entries: offsets are 64 bits wide all the way. The arrays are files of holes, so they take no disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from layerlab.graph.edges import index_dtype
from layerlab.graph.kernels import products_cpu
from layerlab.graph.sampling import kernel_cpu
from layerlab.graph.store import open_store
from layerlab.graph.store.layout import ArrayFile, Manifest, write_manifest

NODES, LONG = 50_000, 43_000
ENTRIES = NODES * LONG

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="files of holes may take disk on other systems"
)


def holes(path: Path, dtype: str) -> NDArray[Any]:
    """An array of zeros of which nothing is on the disk until it is written."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=(ENTRIES,))


def of_file(array: NDArray[Any]) -> ArrayFile:
    return ArrayFile(array.dtype.name, array.shape, "0" * 32)


def test_a_store_of_more_than_two_to_the_31_entries_is_opened_with_wide_offsets(tmp_path: Path) -> None:
    assert ENTRIES > 2**31
    offsets = np.arange(NODES + 1, dtype=np.int64) * LONG
    columns = holes(tmp_path / "indices.npy", "int32")
    columns[-LONG:] = np.arange(LONG)
    columns.flush()  # type: ignore[attr-defined]
    np.save(tmp_path / "indptr.npy", offsets)
    np.save(tmp_path / "degrees.npy", np.diff(offsets).astype(np.float64))
    files = {
        "indptr.npy": of_file(offsets),
        "indices.npy": of_file(columns),
        "degrees.npy": ArrayFile("float64", (NODES,), "0" * 32),
    }
    write_manifest(
        tmp_path, Manifest(num_nodes=NODES, stored=ENTRIES, self_loops=0, directed=False, files=files)
    )
    graph = open_store(tmp_path).graph
    assert graph.indptr.dtype == np.int64
    assert graph.num_edges == ENTRIES // 2
    assert int(graph.indptr[-1]) == ENTRIES
    last = graph.indices[graph.indptr[NODES - 1] : graph.indptr[NODES]]
    assert last.tolist() == list(range(LONG))


def test_columns_are_wide_where_offsets_are() -> None:
    assert index_dtype(NODES, 2**31 - 1) is np.int32
    assert index_dtype(NODES, 2**31) is np.int64


@pytest.fixture
def last_rows(tmp_path: Path) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Offsets, columns and values, of which the last two rows are written: columns 0, 1, 2 ..., values 1, 2, 3 ..."""
    offsets = np.arange(NODES + 1, dtype=np.int64) * LONG
    columns, values = holes(tmp_path / "columns.npy", "int64"), holes(tmp_path / "values.npy", "float32")
    for row in (NODES - 2, NODES - 1):
        here = slice(offsets[row], offsets[row + 1])
        columns[here], values[here] = np.arange(LONG), np.arange(1, LONG + 1)
    return offsets, columns, values


def test_the_sampler_draws_behind_two_to_the_31_entries(
    last_rows: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]],
) -> None:
    nodes = np.array([NODES - 1, NODES - 2], np.int64)
    position = np.full(NODES, -1, np.int32)
    assert kernel_cpu.begin(nodes, position) == -1
    seen = np.zeros(NODES // 64 + 1, np.uint64)
    taken = np.zeros(LONG // 64 + 1, np.uint64)
    offsets, names, numbers, level = kernel_cpu.one_layer(
        *(*last_rows, nodes, 7, False, np.uint64(3), 0), *(position, seen, taken)
    )
    assert offsets.tolist() == [0, 7, 14]
    # The value of a column there is the column plus one: what was read is of these rows.
    assert (level[names] + 1).tolist() == numbers.astype(int).tolist()
    assert len(set(level[names[:7]].tolist())) == 7


def test_a_product_reads_behind_two_to_the_31_entries(
    last_rows: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]],
) -> None:
    offsets, columns, values = last_rows
    x = torch.rand(NODES, 3, generator=torch.Generator().manual_seed(0)).numpy()
    out = np.zeros((NODES, 3), np.float32)
    products_cpu.spmm(offsets, columns, values, None, x, None, out, NODES - 1, NODES)
    expected = np.arange(1, LONG + 1) @ x[:LONG].astype(np.float64)
    assert np.allclose(out[-1], expected, rtol=1e-4)
    assert not out[:-1].any()
