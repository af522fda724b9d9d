"""A race of models on one data set, in a run folder that can be widened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.graph.datasets import load
from layerlab.graph.experiments import cells_of, check_data, fingerprint
from layerlab.graph.runs import are_compiled, default_protocol, layers_of
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.memory import Choice, choose
from layerlab.graph.settings import MODELS, settings_for
from layerlab.graph.task import Judged, parts_for
from layerlab.lab.race import CellResult, Executor, race, summarise
from layerlab.lab.records import RunFolder, create_run

RACE_KIND = "graph-race"


def race_run(
    data: str,
    models: Sequence[str],
    seeds: Sequence[int],
    *,
    out: Path,
    protocol: str | None = None,
    jobs: int | None = None,
    workers: Executor | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    batching: Batching | None = None,
    command: Sequence[str] = (),
    on_choice: Callable[[str, Choice], None] | None = None,
    on_cell: Callable[[CellResult], None] | None = None,
    on_compile: Callable[[], None] | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Race models on a data set; every cell that the folder holds already is taken from there.

    The folder belongs to a data set, a protocol and the models' settings, not to a list of models or a number of
    seeds, so a race can be widened: ask again with more of either, and only what is missing runs.

    Args:
        data: a data set's name or folder.
        models: names of `layerlab.graph.settings.MODELS`.
        seeds: the same for every model. Under "random" and "course" a seed also draws the split.
        out: the run folder.
        protocol: as for `layerlab.graph.runs.train_run`.
        jobs: processes; the number of cores when None.
        overrides: fields of `Settings` to change, by model.
        batching: mini-batches for every model, as for `layerlab.graph.runs.train_run`; None: a full batch for those
            that fit into memory.
        workers: processes that are there already, or a cluster, in place of ``jobs`` new processes.
        command: what was typed, for the record.
        on_choice: called with each model and what was chosen for it, full batch or mini-batches, and why.
        on_cell: called with each finished cell.
        on_compile: as for `layerlab.graph.runs.train_run`.

    Returns:
        The run and the summary of test accuracy (validation accuracy where there is no test part; see
        `layerlab.lab.race.summarise`), with ``data``, ``protocol`` and ``seeds`` added, and ``losses`` by model.

    Raises:
        UserError: as `layerlab.graph.runs.train_run`; no model, no seed, or one that is named twice.
    """
    if not models or not seeds:
        raise UserError(f"expected at least one model ({', '.join(MODELS)}) and one seed")
    if unknown := [model for model in (*models, *(overrides or {})) if model not in MODELS]:
        raise UserError(f"unknown model {unknown[0]!r}; expected one of {', '.join(MODELS)}")
    if len(set(models)) < len(models) or len(set(seeds)) < len(seeds):
        raise UserError("expected each model and each seed once; leave out what is named twice")
    dataset = load(data)
    protocol = protocol or default_protocol(dataset)
    given = overrides or {}
    changed = {model: {**layers_of(batching, model), **given.get(model, {})} for model in MODELS}
    # What would fail in every worker fails here, before anything is written.
    settings = {
        model: replace(settings_for(model, protocol, dataset.name), **changed[model]) for model in MODELS
    }
    parts = parts_for(dataset, protocol, min(seeds))
    Judged(dataset, parts)
    choices = {model: choose(dataset, parts, settings[model], batching) for model in models}
    batchings = {model: choice.batching for model, choice in choices.items() if choice.batching is not None}
    digest = fingerprint(dataset)
    config: dict[str, Any] = {
        "data": dataset.name,
        "fingerprint": digest,
        "protocol": protocol,
        "settings": {model: asdict(settings[model]) for model in MODELS},
    }
    if batching is not None:
        config["batching"] = batching.record()
    if workers is not None:
        workers.check(partial(check_data, data, digest))
    run = create_run(out, RACE_KIND, command, config)
    if on_choice is not None:
        for model, choice in choices.items():
            on_choice(model, choice)
    if on_compile is not None and not are_compiled(models, samples=bool(batchings)):
        on_compile()
    run_cell = cells_of(data, protocol, changed, expected=digest, batchings=batchings)
    cells = race(run_cell, models, seeds, jobs=jobs, workers=workers, folder=run, on_cell=on_cell)
    # A data set whose split has no test part is compared on validation, and the summary says so.
    part = "test" if len(parts.test) else "validation"
    summary = {
        "data": dataset.name,
        "protocol": protocol,
        "seeds": list(seeds),
        "memory": {model: choice.record() for model, choice in choices.items()},
        **summarise(cells, f"{part}_accuracy"),
        "losses": summarise(cells, f"{part}_loss")["contestants"],
    }
    run.finish(summary)
    return run, summary
