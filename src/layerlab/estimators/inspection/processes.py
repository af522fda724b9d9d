"""A user's function called in other processes: several at once, and with a limit to what one evaluation may take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.estimators.evaluation.pool import Workers
from layerlab.estimators.values import Function

_SHOWN = 20  # numbers of a sample in a message


@contextlib.contextmanager
def in_processes(subject: str, single: bool, workers: int, timeout: float | None) -> Iterator[Function]:
    """The function that ``subject`` names, without its derivative; its processes end with the context.

    Args:
        subject: ``FILE.py:FUNC``, which every process loads for itself.
        single: it takes one sample.
        workers: processes; 0 becomes 1.
        timeout: seconds for one evaluation.

    Raises:
        UserError: when it is called: an evaluation fails, takes longer or ends its process.
    """
    pool = Workers(subject, single, max(workers, 1), timeout)

    def f(samples: Tensor) -> Tensor:
        values = torch.empty(len(samples), dtype=torch.float64)
        for part in pool.run(samples.detach(), pool.parts(range(len(samples))), stop=True):
            if part.failure is not None:
                first = samples[part.rows[0]].flatten()
                shown = ", ".join(f"{number:g}" for number in first[:_SHOWN].tolist())
                rest = ", ..." if len(first) > _SHOWN else ""
                which = (
                    "sample" if len(part.rows) == 1 else f"one of {len(part.rows)} samples, the first of them"
                )
                raise UserError(f"{part.failure}; {which} [{shown}{rest}]")
            values[list(part.rows)] = torch.tensor(part.values, dtype=torch.float64)
        return values

    try:
        yield f
    finally:
        pool.close()
