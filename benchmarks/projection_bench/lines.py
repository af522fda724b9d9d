"""Optimised frames against the least coherence that is published for their size."""

from __future__ import annotations

import math
import time
from typing import Any, Literal

from layerlab.projection.bounds import floor
from layerlab.projection.frames import optimised_frame

_TOTH = "Fejes Tóth 1965"
_EQUIANGULAR = "Lemmens and Seidel 1973"
_GAME = "Jasper, King and Mixon 2019 (Game of Sloanes)"

PUBLISHED: tuple[tuple[Literal["real", "complex"], int, int, float, str], ...] = (
    ("real", 3, 5, 5**-0.5, _TOTH),
    ("real", 3, 6, 5**-0.5, _TOTH),
    ("real", 3, 7, 3**-0.5, _TOTH),
    ("real", 3, 8, math.cos(math.radians(49.6399)), "Mixon and Parshall 2019"),
    ("real", 4, 6, 1 / 3, _EQUIANGULAR),
    ("real", 5, 10, 1 / 3, _EQUIANGULAR),
    ("real", 6, 16, 1 / 3, _EQUIANGULAR),
    ("real", 7, 28, 1 / 3, _EQUIANGULAR),
    ("complex", 3, 7, 2**0.5 / 3, _GAME),
    ("complex", 5, 11, 0.34641016, _GAME),
)


def found(restarts: int | None) -> list[dict[str, Any]]:
    """What the default search comes to, beside what is published."""
    rows = []
    for field, dim, count, best, source in PUBLISHED:
        started = time.perf_counter()
        frame = optimised_frame(
            dim, count, field=field, floor=floor(dim, count, field).value, restarts=restarts
        )
        rows.append(
            {
                "field": field,
                "dim": dim,
                "count": count,
                "published": best,
                "source": source,
                "coherence": frame.coherence,
                "above": frame.coherence / best - 1,
                "seconds": time.perf_counter() - started,
            }
        )
    return rows
