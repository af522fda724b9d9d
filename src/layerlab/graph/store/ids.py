"""Which position each id of the source has: the files that keep the ids, and the look-up of the edges' ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.graph.store.arrays import ArrayWriter, open_array
from layerlab.graph.store.layout import ArrayFile
from layerlab.graph.store.reading import stream


def write_ids(
    connection: Any, query: str, path: Path, folder: Path, *, whole: bool
) -> tuple[int, dict[str, ArrayFile]]:
    """Keep the ids that ``query`` gives, in its order: whole numbers or text. None are kept if they are 0, 1, 2, …

    Args:
        connection: of the engine.
        query: one column, without empty ones.
        path: the file the query reads, for its errors.
        folder: where to write.
        whole: whether the ids are whole numbers.

    Returns:
        Their number, and the files.
    """
    if whole:
        return _whole_ids(connection, query, path, folder)
    import pyarrow as pa

    count, letters_so_far = 0, 0
    with (
        ArrayWriter(folder / "ids_offsets.npy", np.int64) as offsets,
        ArrayWriter(folder / "ids_bytes.npy", np.uint8) as letters,
    ):
        offsets.append(np.zeros(1, dtype=np.int64))
        for batch in stream(connection, query, path, ordered=True):
            text = batch.column(0).cast(pa.large_string())
            _, starts, content = text.buffers()
            ends = np.frombuffer(starts, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
            letters.append(np.frombuffer(content, dtype=np.uint8)[ends[0] : ends[-1]])
            offsets.append(ends[1:] - ends[0] + letters_so_far)
            letters_so_far += int(ends[-1] - ends[0])
            count += len(text)
    return count, {"ids_offsets.npy": offsets.file, "ids_bytes.npy": letters.file}


def _whole_ids(connection: Any, query: str, path: Path, folder: Path) -> tuple[int, dict[str, ArrayFile]]:
    count, plain = 0, True
    with ArrayWriter(folder / "ids.npy", np.int64) as ids:
        for batch in stream(connection, query, path, ordered=True):
            numbers = batch.column(0).to_numpy(zero_copy_only=False)
            plain = plain and bool((numbers == np.arange(count, count + numbers.size)).all())
            ids.append(numbers)
            count += numbers.size
    return count, drop_plain(folder, {"ids.npy": ids.file}, plain=plain)


def drop_plain(folder: Path, files: dict[str, ArrayFile], *, plain: bool) -> dict[str, ArrayFile]:
    """``files`` without the ids where these are the positions themselves."""
    if not plain:
        return files
    (folder / "ids.npy").unlink()
    return {}


def positions(folder: Path, files: dict[str, ArrayFile], nodes: int) -> NDArray[np.int32] | None:
    """The position of each whole number that is an id, -1 for others; None where that takes too much memory, or text.

    A table over all numbers up to the largest id: 4 bytes each, for up to eight numbers a node.
    """
    if "ids.npy" not in files:
        return None if "ids_offsets.npy" in files else np.arange(nodes, dtype=np.int32)
    ids = open_array(folder / "ids.npy", files["ids.npy"])
    if not ids.size or ids.min() < 0 or ids.max() > max(8 * nodes, 1 << 20):
        return None
    found = np.full(int(ids.max()) + 1, -1, dtype=np.int32)
    found[ids] = np.arange(ids.size, dtype=np.int32)
    return found


def register(connection: Any, name: str, folder: Path, files: dict[str, ArrayFile], nodes: int) -> None:
    """The ids as a table ``name`` (id, place) of the engine, over the files."""
    import pyarrow as pa

    if "ids_offsets.npy" in files:
        offsets, letters = (
            pa.py_buffer(open_array(folder / part, files[part]))
            for part in ("ids_offsets.npy", "ids_bytes.npy")
        )
        ids = pa.LargeStringArray.from_buffers(nodes, offsets, letters)
    else:
        kept = files.get("ids.npy")
        ids = pa.array(np.arange(nodes) if kept is None else open_array(folder / "ids.npy", kept))
    place = pa.array(np.arange(nodes, dtype=np.int32))
    connection.register(name, pa.table({"id": ids, "place": place}))
