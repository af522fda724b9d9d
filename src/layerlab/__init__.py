"""layerlab: a workbench for neural-network architecture decisions.

The rooms are imported on first use, so that ``import layerlab`` stays light:

>>> import layerlab as ll
>>> ll.graph.Graph.from_edges([0, 1], [1, 2]).num_edges
2
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0.dev0"

_ROOMS = (
    *("attention", "estimators", "gradflow", "graph", "projection", "segmentation"),
    *("claims", "lab", "reproduce"),
)


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
