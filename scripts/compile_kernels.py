"""Compile the kernels that `layerlab reproduce` uses, two at a time: the last step of an installation by `make`.

Compiled code is kept beside the sources, and found there until they change. Without this step, whatever needs a kernel
first compiles it then.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

# Between them these call every kernel that any claim calls; what compiles longest comes first.
CLAIMS = (
    "attention.kernel-linear",
    "graph.gat-coefficients",
    "projection.kerdock",
    "graph.power",
    "attention.kernel-recurrent",
    "projection.jl",
)
MODELS = ("gat", "gcn", "sgc", "mlp")


def check_claim(name: str) -> None:
    from layerlab.catalogue import catalogue
    from layerlab.claims import check

    check(catalogue()[name])


def train_model(name: str) -> None:
    """One epoch by the papers' protocol."""
    from layerlab.graph.datasets import load
    from layerlab.graph.experiments import train
    from layerlab.graph.settings import settings_for

    train(load("cora"), replace(settings_for(name, "public", "cora"), epochs=1), "public", 0)


def train_unet() -> None:
    """One epoch on a few images."""
    from layerlab.segmentation.digits import Digits
    from layerlab.segmentation.experiments import BUILT_IN
    from layerlab.segmentation.runs import train_run

    with tempfile.TemporaryDirectory() as folder:
        train_run(Digits(10, 32), replace(BUILT_IN, size=32, epochs=1), out=Path(folder) / "run")


def main() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(train_model, MODELS[0])]
        jobs += [pool.submit(check_claim, name) for name in CLAIMS]
        jobs += [pool.submit(train_model, name) for name in MODELS[1:]]
        jobs += [pool.submit(train_unet)]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
