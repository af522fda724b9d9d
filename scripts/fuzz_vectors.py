"""Vectors and codebooks to spoil."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fuzz_subject import Subject, layerlab


def _vectors(folder: Path) -> None:
    from safetensors.numpy import save_file

    rows = np.random.default_rng(0).normal(size=(30, 6))
    layerlab(folder, "codebook", "make", "--dim", "16", "--count", "24", "--out", "codes.npz")
    layerlab(
        folder,
        "codebook",
        "make",
        "--dim",
        "6",
        "--count",
        "9",
        "--construction",
        "random-lines",
        "--out",
        "lines.npz",
    )
    np.save(folder / "rows.npy", rows)
    np.savez(folder / "rows.npz", rows=rows)
    (folder / "rows.csv").write_text(
        "a,b,c,d,e,f\n" + "".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in rows)
    )
    save_file({"rows": rows.astype(np.float32), "bias": rows[0]}, folder / "rows.safetensors")


_INSPECT = ["codebook", "inspect"]

VECTORS: dict[str, Subject] = {
    "codebook-archive": Subject(_vectors, [*_INSPECT, "codes.npz", "--json"], ["codes.npz"]),
    "codebook-lines": Subject(_vectors, [*_INSPECT, "lines.npz"], ["lines.npz"]),
    "vectors-npy": Subject(_vectors, [*_INSPECT, "rows.npy", "--report", "--out", "page"], ["rows.npy"]),
    "vectors-npz": Subject(_vectors, [*_INSPECT, "rows.npz"], ["rows.npz"]),
    "vectors-csv": Subject(_vectors, [*_INSPECT, "rows.csv", "--json"], ["rows.csv"]),
    "vectors-safetensors": Subject(_vectors, [*_INSPECT, "rows.safetensors"], ["rows.safetensors"]),
    "points-npy": Subject(
        _vectors,
        ["codebook", "project", "rows.npy", "--dim", "3", "--out", "o.npy"],
        ["rows.npy"],
        (0, 1),
        [4],
    ),
    "points-csv": Subject(
        _vectors,
        ["codebook", "project", "rows.csv", "--dim", "3", "--report", "--json"],
        ["rows.csv"],
        (0, 1),
    ),
}
