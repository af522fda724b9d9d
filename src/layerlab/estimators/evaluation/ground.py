"""What every worker process stands on: one thread, and torch loaded.

Imported by the process that workers are forked from. The limits are set before numpy and torch are loaded, which read
them once.
"""

from __future__ import annotations

import os

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
)

import torch


def one_thread() -> None:
    """Keep torch to one thread in this process, also where the limits above came too late."""
    torch.set_num_threads(1)
