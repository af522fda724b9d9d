"""The points that are projected, and where the projected ones go."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.lab.files import write_atomic
from layerlab.projection.archive import read


def read_points(source: str, array: str | None = None) -> Any:
    """Rows from a file, or the digits that scikit-learn carries.

    Args:
        source: a path (.npy is mapped, not loaded), or ``digits``.
        array: which array of an archive.

    Raises:
        UserError: see `layerlab.projection.archive.read`.

    >>> read_points("digits").shape
    (1797, 64)
    """
    if source == "digits" and not Path(source).exists():
        from sklearn.datasets import load_digits

        return load_digits().data
    return read(Path(source), array).vectors


def write_points(path: Path, values: NDArray[Any], record: Mapping[str, Any]) -> None:
    """Write projected points, whole or not at all: ``.npy``, or ``.npz`` with ``vectors`` and the record as JSON.

    Raises:
        UserError: the file cannot be written.
    """
    stream = io.BytesIO()
    if path.suffix == ".npy":
        np.save(stream, values, allow_pickle=False)
    else:
        words = json.dumps(dict(record), ensure_ascii=False)
        np.savez(stream, allow_pickle=False, vectors=values, projection=np.array(words))
    write_atomic(path, stream.getvalue())
