"""Data in a folder, and runs that train on it in a blink."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.graph.runs import train_run

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
FAST = {"epochs": 6, "hidden": 3}


def folder(
    path: Path, *, nodes: int = 30, split: str = "train,val,test", features: int = 3, labels: bool = True
) -> str:
    """A data set's folder: two rings, features that tell them apart, and ids with commas."""
    path.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    words = split.split(",") if split else [""]
    with (path / "nodes.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "label", "split", *(f"f{k}" for k in range(features))])
        for node in range(nodes):
            label = ("left", "right")[node % 2]
            numbers = generator.random(features) + 2 * (node % 2)
            row = [
                f"node, {node}",
                label if labels else "",
                words[(node // 2) % len(words)] if labels else "",
            ]
            table.writerow([*row, *(f"{value:.3f}" for value in numbers)])
    with (path / "edges.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [(f"node, {node}", f"node, {(node + 2) % nodes}") for node in range(nodes)]
        )
    return str(path)


def trained(path: Path, model: str = "gcn", data: str | Path = CLUB, **changes: Any) -> Path:
    train_run(str(data), model, out=path, overrides={**FAST, **changes})
    return path


def edit(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what run.json says."""
    file = run / "run.json"
    meta = json.loads(file.read_text(encoding="utf-8"))
    change(meta)
    file.write_text(json.dumps(meta), encoding="utf-8")
