"""Runs of policies on disk: baselines by seeds, in parallel, resumable, with the weights. The command line calls these.

A run folder, besides ``run.json`` and ``cells/``::

    weights/BASELINE-SEED.safetensors      the policy of a finished cell, its best weights
    checkpoints/BASELINE-SEED.safetensors  an unfinished one
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from layerlab.errors import UserError
from layerlab.estimators.policy.learner import Learner
from layerlab.estimators.policy.networks import Policy
from layerlab.estimators.policy.settings import BASELINES, Settings
from layerlab.estimators.policy.source import Source
from layerlab.estimators.policy.training import train
from layerlab.lab.race import CellResult, Executor, cell_key, race, summarise
from layerlab.lab.records import RunFolder, create_run, open_run
from layerlab.lab.shared import check_shared
from layerlab.lab.weights import load_weights, read_tensors, write_tensors

KIND = "estimator-policy"


def policy_run(
    source: Source,
    settings: Settings,
    *,
    baselines: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    jobs: int | None = None,
    workers: Executor | None = None,
    command: Sequence[str] = (),
    on_cell: Callable[[CellResult], None] | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Train policies with every baseline and seed; what the folder holds already is taken from there.

    Args:
        source: the environment.
        settings: see `Settings`; its baseline is replaced by each of ``baselines``.
        baselines: names of `BASELINES`, each once.
        seeds: the same for every baseline, so that differences are paired.
        out: the run folder; an unfinished run of the same settings goes on, a finished one can be widened by more
            baselines or seeds.
        jobs: processes; the number of cores when None. Each runs torch on one thread.
        workers: a cluster whose machines all see ``out``, in place of ``jobs`` new processes.
        command: what was typed, for the record.
        on_cell: called with each finished cell.

    Returns:
        The run and its summary: see `layerlab.lab.race.summarise` of the evaluation's mean return, with
        ``environment``, ``seeds``, ``target``, ``evaluation`` (each cell's), ``solved`` (by baseline: how many seeds
        reached the target in the final evaluation) and ``relative_variance`` (see `relative_variances`) added.

    Raises:
        UserError: as `layerlab.estimators.policy.training.train`; an unknown baseline; a folder that cannot be
            written or holds another run.
        KeyboardInterrupt: Ctrl-C; finished cells and the updates of the others are in the folder.
    """
    # What would fail in every worker fails here, before anything is written.
    if len(set(baselines)) < len(baselines):
        raise UserError(
            f"expected each baseline once, got {', '.join(baselines)}; leave out what is named twice"
        )
    wanted = {name: replace(settings, baseline=name) for name in baselines}
    _try_out(source)
    if workers is not None:
        workers.check(functools.partial(_try_out, source))
        check_shared(workers, out)
    config = {
        "environment": asdict(source),
        "settings": {name: value for name, value in asdict(settings).items() if name != "baseline"},
    }
    run = create_run(out, KIND, command, config)
    for name in ("weights", "checkpoints"):
        (run.path / name).mkdir(exist_ok=True)

    def accept(cell: CellResult) -> None:
        checkpoint_of(run.path, cell_key(cell["contestant"], cell["seed"])).unlink(missing_ok=True)
        if on_cell is not None:
            on_cell(cell)

    cells = race(
        functools.partial(_cell, source, wanted, run.path),
        list(baselines),
        list(seeds),
        jobs=jobs,
        workers=workers,
        folder=run,
        on_cell=accept,
    )
    with contextlib.suppress(OSError):
        (run.path / "checkpoints").rmdir()
    summary = {"environment": source.name, "seeds": list(seeds), **_summary(cells)}
    run.finish(summary)
    return run, summary


def _try_out(source: Source) -> None:
    with source.open(1):
        pass


def _cell(
    source: Source, settings: Mapping[str, Settings], folder: Path, baseline: str, seed: int
) -> CellResult:
    key = cell_key(baseline, seed)
    trained = train(source, settings[baseline], seed=seed, checkpoint=checkpoint_of(folder, key))
    write_tensors(weights_of(folder, key), trained.policy.state_dict())
    return trained.record()


def checkpoint_of(folder: Path, key: str) -> Path:
    """The file of an unfinished cell."""
    return folder / "checkpoints" / f"{key}.safetensors"


def weights_of(folder: Path, key: str) -> Path:
    """The file of a finished cell's weights."""
    return folder / "weights" / f"{key}.safetensors"


def under_way(folder: Path, key: str) -> dict[str, float]:
    """The numbers of an unfinished cell's latest checkpoint; empty where there is none."""
    try:
        _, header = read_tensors(checkpoint_of(folder, key), "")
        found = json.loads(header["progress"])["history"][-1]
    except (OSError, UserError, KeyError, ValueError, IndexError, TypeError):
        return {}
    return dict(found)


def trained_policy(run_path: Path, baseline: str, seed: int) -> tuple[Source, Policy]:
    """A finished cell's policy with its environment.

    Args:
        run_path: a folder that `policy_run` made.
        baseline: of the cell.
        seed: of the cell.

    Raises:
        UserError: no such run or cell, or weights that are missing, damaged or of another environment.
    """
    run = open_run(run_path, KIND)
    try:
        source = Source(**run.meta["config"]["environment"])
        settings = Settings(baseline=baseline, **run.meta["config"]["settings"])
    except (KeyError, TypeError) as error:
        raise UserError(f"the run's settings are damaged ({error}); train again", file=run_path) from None
    with source.open(1) as environments:
        policy = Learner(settings, environments, seed).policy
    load_weights(policy, weights_of(run.path, cell_key(baseline, seed)))
    return source, policy.eval()


def relative_variances(cells: Mapping[str, CellResult]) -> dict[str, dict[str, float]]:
    """The gradient's variance with each baseline over that with none, on the same batches of the same policies.

    Medians over all looks of all seeds, by the baseline that was trained with.
    """
    ratios: dict[str, dict[str, list[float]]] = {}
    for cell in cells.values():
        curves = cell["curves"]
        for name in BASELINES:
            pairs = zip(curves.get(f"variance_{name}", []), curves["variance_none"], strict=False)
            found = [value / reference for value, reference in pairs if value is not None and reference]
            if found:
                ratios.setdefault(cell["contestant"], {}).setdefault(name, []).extend(found)
    return {
        trained: {name: median(values) for name, values in found.items()} for trained, found in ratios.items()
    }


def _summary(cells: Mapping[str, CellResult]) -> dict[str, Any]:
    target = next(iter(cells.values()))["target"]
    solved: dict[str, int] = {}
    for cell in cells.values():
        reached = target is not None and cell["evaluation"]["mean"] >= target
        solved[cell["contestant"]] = solved.get(cell["contestant"], 0) + reached
    return {
        "target": target,
        "solved": solved,
        "evaluation": {key: cell["evaluation"] for key, cell in cells.items()},
        "steps": {key: cell["metrics"]["steps"] for key, cell in cells.items()},
        "cell_seconds": {key: cell["seconds"] for key, cell in cells.items()},
        "relative_variance": relative_variances(cells),
        **summarise(cells, "evaluation_return"),
    }
