"""What is spoiled: small files of every form that layerlab reads, and the command (or function) that reads them."""

from __future__ import annotations

from pathlib import Path

from fuzz_graphs import GRAPHS
from fuzz_models import MODELS
from fuzz_pictures import PICTURES
from fuzz_subject import Subject, layerlab
from fuzz_vectors import VECTORS

_REPRODUCE = ["reproduce", "--only", "projection", "--seeds", "2", "--jobs", "1", "--out", "out"]


def _reproduced(folder: Path) -> None:
    layerlab(folder, *_REPRODUCE)


SUBJECTS: dict[str, Subject] = {
    **GRAPHS,
    **MODELS,
    **VECTORS,
    **PICTURES,
    "reproduce": Subject(
        _reproduced, _REPRODUCE, ["out/run.json", "out/claims/run.json", "out/claims/cells/*"]
    ),
}
