"""A training run that is finished: its weights beside its record, and whether they belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.lab.files import sha256_of
from layerlab.lab.process_group import Group
from layerlab.lab.records import RunFolder, create_run, open_run
from layerlab.lab.weights import load_weights, write_tensors

WEIGHTS = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
DIGEST = "weights_sha256"

Model = TypeVar("Model", bound=nn.Module)


def begin_training(
    path: Path,
    kind: str,
    command: Sequence[str],
    config: Mapping[str, Any],
    fields: Sequence[str],
    group: Group | None = None,
) -> tuple[RunFolder, bool]:
    """The run folder of a training, and whether the training is finished already.

    Args:
        path: as for `layerlab.lab.records.create_run`, as are the next three.
        kind: of the run.
        command: that started it.
        config: of the run.
        fields: as for `is_trained`.
        group: processes that train together: the first makes the folder and holds it, the others only hear of it.

    Raises:
        UserError: as `create_run`, in all processes.
    """
    mine: RunFolder | None = None

    def begin() -> dict[str, Any]:
        nonlocal mine
        mine = create_run(path, kind, command, config)
        done = is_trained(mine, fields)
        if done:
            (path / CHECKPOINT).unlink(missing_ok=True)
        return {"meta": mine.meta, "done": done}

    begun = begin() if group is None else group.from_first(begin)
    return mine or RunFolder(path, begun["meta"]), begun["done"]


def finish_training(
    run: RunFolder, model: nn.Module, results: Callable[[], Mapping[str, Any]], group: Group | None = None
) -> None:
    """Keep a trained model: its weights as `WEIGHTS`, then the results, with the weights' SHA-256 as `DIGEST`.

    Args:
        run: of `begin_training`; what it was to be resumed from is removed.
        model: the trained model.
        results: makes them, as JSON.
        group: as for `begin_training`; the first makes the results.

    Raises:
        UserError: one of the files cannot be written.
    """

    def write() -> dict[str, Any]:
        found = results()
        write_tensors(run.path / WEIGHTS, model.state_dict())
        run.finish({**found, DIGEST: sha256_of(run.path / WEIGHTS)})
        (run.path / CHECKPOINT).unlink(missing_ok=True)
        return dict(run.meta["results"])

    run.meta["results"] = write() if group is None else group.from_first(write)


def is_trained(run: RunFolder, fields: Sequence[str]) -> bool:
    """Whether a run is finished: every one of these results is there, and the weights are those it wrote.

    Args:
        run: a run that `finish_training` finished, or that is on its way there.
        fields: names of results, those that the room's pages and tables cannot do without.
    """
    results = run.meta.get("results")
    if not isinstance(results, dict) or not all(name in results for name in (*fields, DIGEST)):
        return False
    try:
        return results[DIGEST] == sha256_of(run.path / WEIGHTS)
    except UserError:
        return False


def open_training(path: str | Path, kind: str, fields: Sequence[str]) -> RunFolder:
    """Open a run whose training is finished.

    Args:
        path: its folder.
        kind: as it was created with.
        fields: as for `is_trained`.

    Raises:
        UserError: not such a run, not finished, or its results or weights are damaged.
    """
    run = open_run(path, kind)
    if "results" not in run.meta:
        raise UserError("this training run is not finished; run its command again to go on", file=run.path)
    if not is_trained(run, fields):
        raise UserError(
            f"{WEIGHTS} is missing, or not the one that this run wrote; run its training command again",
            file=run.path,
        )
    return run


def rebuild(run: RunFolder, build: Callable[[], Model]) -> Model:
    """The trained model of a run, in evaluation mode; the state of torch's generator stays what it was.

    Args:
        run: a finished run.
        build: makes the model with any weights, from settings that may be anybody's.

    Raises:
        UserError: the weights are not those of such a model.
    """
    weights = run.path / WEIGHTS
    # Built without memory first: the settings must not be able to ask for more than the file of weights holds.
    with torch.device("meta"):
        wanted = sum(p.numel() * p.element_size() for p in build().parameters())
    if wanted > weights.stat().st_size:
        raise UserError(
            f"the settings in run.json do not fit {WEIGHTS}; train again, into another folder", file=run.path
        )
    with torch.random.fork_rng(devices=[]):
        model = build()
    load_weights(model, weights)
    return model.eval()
