"""What runs in a worker process: it loads the user's file by itself and evaluates samples that it is sent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Function = Callable[..., Any]

_loaded: list[Function | UserError] = []


def start(f: str | Function) -> None:
    """Make this process ready: one thread, talk to standard error, the function loaded."""
    from layerlab.estimators.evaluation import ground

    ground.one_thread()
    # Standard output belongs to the parent's result.
    sys.stdout = sys.stderr
    try:
        _loaded.append(function(f))
    except UserError as error:
        # Told with the first evaluation: an initialiser that fails would be started again without end.
        _loaded.append(error)


def work(samples: NDArray[np.float64], single: bool) -> tuple[list[float], float]:
    """The values of f at ``samples`` ``(n, ...)`` and the seconds that they took."""
    import torch

    found = _loaded[-1]
    if isinstance(found, UserError):
        raise found
    return values_of(found, torch.from_numpy(samples), single)


def values_of(f: Function, samples: Tensor, single: bool) -> tuple[list[float], float]:
    """The same in whatever process this is."""
    from layerlab.estimators.calls import single as on_rows
    from layerlab.estimators.values import evaluated

    begun = time.perf_counter()
    values = evaluated(on_rows(f) if single else f, samples)
    return values.tolist(), time.perf_counter() - begun


def function(f: str | Function) -> Function:
    """``FILE.py:FUNC`` as a function, or the function itself.

    Raises:
        UserError: there is no such function, or the file raises.

    >>> function("math:sqrt")(4.0)
    2.0
    """
    if not isinstance(f, str):
        return f
    from layerlab.lab.subjects import load

    found = load(f)
    if not callable(found):
        raise UserError(f"{f} is of type {type(found).__name__}; expected a function of samples")
    return found
