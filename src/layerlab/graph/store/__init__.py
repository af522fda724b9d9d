"""Graphs larger than memory: a folder of memory-mapped arrays, made by `layerlab graph convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlab.lab.lazy import on_first_use

if TYPE_CHECKING:
    from layerlab.graph.store.features import StoredFeatures
    from layerlab.graph.store.layout import is_store
    from layerlab.graph.store.opened import Store, open_store
    from layerlab.graph.store.saved import save_dataset

_HOMES = {
    "Store": "opened",
    "StoredFeatures": "features",
    "is_store": "layout",
    "open_store": "opened",
    "save_dataset": "saved",
}

__all__ = ["Store", "StoredFeatures", "is_store", "open_store", "save_dataset"]

__getattr__, __dir__ = on_first_use(__name__, _HOMES, ("arrays", "layout", *set(_HOMES.values())))
