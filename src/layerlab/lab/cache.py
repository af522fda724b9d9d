"""Where fetched data sets are kept."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "LAYERLAB_DATA"


def cache_folder() -> Path:
    """The folder of fetched data sets: ``$LAYERLAB_DATA``, else the user's cache folder on this system."""
    pointed = os.environ.get(CACHE_VARIABLE)
    if pointed:
        return Path(pointed).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("layerlab")
