"""Results on disk: one JSON file, part by part, each part with the circumstances under which it was measured."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.json_files import read_json, write_json
from layerlab.lab.machine import environment

FORMAT = "layerlab-benchmark-{subject}"
VERSIONS = {
    "graph": 3,
    "gradflow": 1,
    "attention": 1,
    "projection": 1,
    "estimators": 1,
    "segmentation": 1,
    "scale": 1,
}


def circumstances(threads: int) -> dict[str, Any]:
    """What a figure measured now depends on; the load is the mean number of running processes of the last minute."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "environment": {
            **environment(),
            "threads": threads,
            "torch_geometric": metadata.version("torch_geometric"),
            "numba": metadata.version("numba"),
        },
        "load_before": load,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read(path: Path, subject: str) -> dict[str, Any]:
    """The stored results.

    Args:
        path: the file.
        subject: of the benchmark, the name of its script.

    Raises:
        UserError: they are missing, damaged or of another form.
    """
    stored = read_json(path)
    form, version = FORMAT.format(subject=subject), VERSIONS[subject]
    if not isinstance(stored, dict) or stored.get("format") != form or stored.get("version") != version:
        raise UserError(
            f"expected results of this benchmark ({form} {version}); run python benchmarks/{subject}.py",
            file=path,
        )
    return stored


class Store:
    """The file that a run writes: every finished part at once, beside the parts that are there."""

    def __init__(self, path: Path, command: str, quick: bool, subject: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.parts: dict[str, Any] = read(path, subject)["parts"]
        except UserError:
            # Nothing there yet, or the form of an earlier benchmark, which no page can read.
            self.parts = {}
        form = FORMAT.format(subject=subject)
        self.head = {"format": form, "version": VERSIONS[subject], "command": command, "quick": quick}

    def put(self, name: str, part: dict[str, Any]) -> None:
        self.parts[name] = part
        write_json(self.path, {**self.head, "parts": self.parts})
