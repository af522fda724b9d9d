"""Runs of this room on disk: train one model, predict with it, race several. The command line calls these."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.experiments import cells_of, fingerprint
from layerlab.graph.settings import MODELS, Settings, settings_for
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.task import NodeTask, build_model, normalise_rows, parts_for, schedule_for
from layerlab.lab.files import write_atomic
from layerlab.lab.kernels import kept
from layerlab.lab.race import CellResult, Workers, race, summarise
from layerlab.lab.records import RunFolder, create_run
from layerlab.lab.trained import finish_training, is_trained, open_training, rebuild
from layerlab.lab.training import fit, one_thread

TRAIN_KIND = "graph-train"
RACE_KIND = "graph-race"
RESULTS = ("metrics", "best_epoch", "epochs", "parameters", "step_seconds", "seconds", "curves")


def slug(data: str) -> str:
    """A data set's name as part of a folder's name.

    >>> slug("my data/cora.v2")
    'cora.v2'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).resolve().name) or "data"


def default_protocol(dataset: NodeDataset) -> str:
    """ "public" when the data set has a split of its own, else "random"."""
    return "random" if dataset.split is None else "public"


def are_compiled(models: Sequence[str]) -> bool:
    """Whether this machine keeps compiled code of the kernels that these models train with."""
    files = [
        "products_cpu",
        "loss_cpu",
        *(["attention_cpu", "attention_backward_cpu"] if "gat" in models else []),
    ]
    return kept.are_kept(f"layerlab.graph.kernels.{file}" for file in files)


def train_run(
    data: str,
    model: str,
    *,
    out: Path,
    protocol: str | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    command: Sequence[str] = (),
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
    on_compile: Callable[[], None] | None = None,
) -> RunFolder:
    """Train one model and keep it in a run folder, or go on with the run that is there.

    Args:
        data: a data set's name or folder.
        model: a name of `layerlab.graph.settings.MODELS`.
        out: the run folder; a finished run of the same settings is returned as it is, an unfinished one resumed, and
            one whose weights or results are damaged is trained again.
        protocol: "public", "random" or "course"; None takes the data set's own split if it has one.
        seed: of weights, dropout and (for "random" and "course") the split.
        overrides: fields of `Settings` to change.
        command: what was typed, for the record.
        on_epoch: called with the epoch, the largest possible epoch and the metrics.
        on_compile: called before training if kernels are compiled first, which takes about 20 seconds.

    Returns:
        The finished run; its ``meta["results"]`` holds metrics, curves, times and parameters.

    Raises:
        UserError: unknown data, model or protocol, a setting out of range, data that the protocol does not fit, or a
            folder that cannot be written or holds another run.
    """
    dataset = load(data)
    protocol = protocol or default_protocol(dataset)
    settings = replace(settings_for(model, protocol, dataset.name), **(overrides or {}))
    task = NodeTask(dataset, parts_for(dataset, protocol, seed), settings)
    config = {
        "data": dataset.name,
        "fingerprint": fingerprint(dataset),
        "protocol": protocol,
        "seed": seed,
        "settings": asdict(settings),
        "features": dataset.num_features,
        "classes": list(dataset.class_names),
    }
    run = create_run(out, TRAIN_KIND, command, config)
    checkpoint = run.path / "checkpoint.safetensors"
    if is_trained(run, RESULTS):
        checkpoint.unlink(missing_ok=True)
        return run
    if on_compile is not None and not are_compiled((model,)):
        on_compile()
    result = fit(
        task,
        schedule_for(settings),
        seed=seed,
        checkpoint=checkpoint,
        config=config,
        on_epoch=None
        if on_epoch is None
        else lambda epoch, metrics: on_epoch(epoch, settings.epochs, metrics),
    )
    finish_training(run, result.model, result.record())
    checkpoint.unlink(missing_ok=True)
    return run


@dataclass(frozen=True)
class Predictions:
    """The most probable class of every node of a data set.

    Args:
        node_ids: the data set's own ids.
        labels: the class names.
        probabilities: softmax probability of that class.
    """

    node_ids: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    def write(self, path: Path) -> None:
        """As CSV with the columns id, label, probability; whole or not at all."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("id", "label", "probability"))
        table.writerows(
            (node, label, f"{probability:.6f}")
            for node, label, probability in zip(self.node_ids, self.labels, self.probabilities, strict=True)
        )
        write_atomic(path, text.getvalue().encode())


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished training run, opened with data that fit it.

    Args:
        run: the folder.
        settings: of the training.
        classes: the class names that the model knows.
        dataset: the data, not always those of the training.
        model: the trained model, in evaluation mode.
    """

    run: RunFolder
    settings: Settings
    classes: list[str]
    dataset: NodeDataset
    model: nn.Module

    @property
    def features(self) -> SparseMatrix:
        """The features as the model takes them."""
        return normalise_rows(self.dataset.features)


def open_trained(
    run_path: Path, data: Callable[[RunFolder], NodeDataset], *, model: str | None = None
) -> TrainedRun:
    """Open a finished training run and rebuild its model.

    Args:
        run_path: a folder that `train_run` made.
        data: gives the data, once the run is known to be whole.
        model: the only model that is wanted; None takes any.

    Raises:
        UserError: not a training run, of another model, not finished, damaged, or the features do not fit.
    """
    run = open_training(run_path, TRAIN_KIND, RESULTS)
    settings, features, classes = _trained(run)
    if model is not None and settings.model != model:
        raise UserError(
            f"expected the run of a {model}, got one of a {settings.model}; "
            f"train one: layerlab graph train DATA --model {model}",
            file=run_path,
        )
    dataset = data(run)
    if dataset.num_features != features:
        raise UserError(
            f"the model was trained on {features} features, {dataset.name} has {dataset.num_features}; "
            "give data with the same feature columns"
        )
    network = rebuild(run, lambda: build_model(settings, features, len(classes)))
    return TrainedRun(run, settings, classes, dataset, network)


def predict_run(run_path: Path, data: str) -> Predictions:
    """Predict every node of a data set with a trained run.

    Args:
        run_path: a folder that `train_run` made.
        data: a data set with the same feature columns; labels are not needed.

    Raises:
        UserError: not a training run, not finished, damaged, or the features do not fit.
    """
    trained = open_trained(run_path, lambda run: load(data, need_labels=False))
    dataset, model, classes = trained.dataset, trained.model, trained.classes
    with torch.no_grad(), one_thread():
        probabilities = torch.softmax(model(trained.features, dataset.graph), dim=1)
    if not torch.isfinite(probabilities).all():
        raise UserError(
            "the model's output is not finite; its weights are damaged, train again", file=run_path
        )
    best = probabilities.max(dim=1)
    return Predictions(
        dataset.node_ids,
        tuple(classes[index] for index in best.indices.tolist()),
        tuple(best.values.tolist()),
    )


def _trained(run: RunFolder) -> tuple[Settings, int, list[str]]:
    """Settings, number of features and classes of a training run, read as data of unknown origin."""
    config, file = run.meta["config"], run.path / "run.json"
    mend = "train again, into another folder"
    fields, features, classes = (config.get(name) for name in ("settings", "features", "classes"))
    try:
        settings = Settings(**fields)
    except (TypeError, UserError) as error:
        raise UserError(f"the run's settings are damaged ({error}); {mend}", file=file) from None
    if type(features) is not int or features < 1:
        raise UserError(f"expected the number of features, got {features!r}; {mend}", file=file)
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise UserError(f"expected a list of class names, got {classes!r}; {mend}", file=file)
    return settings, features, classes


def race_run(
    data: str,
    models: Sequence[str],
    seeds: Sequence[int],
    *,
    out: Path,
    protocol: str | None = None,
    jobs: int | None = None,
    workers: Workers | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    command: Sequence[str] = (),
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
        protocol: as for `train_run`.
        jobs: processes; the number of cores when None.
        overrides: fields of `Settings` to change, by model.
        workers: processes that are there already, in place of ``jobs`` new ones.
        command: what was typed, for the record.
        on_cell: called with each finished cell.
        on_compile: as for `train_run`.

    Returns:
        The run and the summary of test accuracy (validation accuracy where there is no test part; see
        `layerlab.lab.race.summarise`), with ``data``, ``protocol`` and ``seeds`` added, and ``losses`` by model.

    Raises:
        UserError: as `train_run`; no model, no seed, or one that is named twice.
    """
    if not models or not seeds:
        raise UserError(f"expected at least one model ({', '.join(MODELS)}) and one seed")
    if unknown := [model for model in (*models, *(overrides or {})) if model not in MODELS]:
        raise UserError(f"unknown model {unknown[0]!r}; expected one of {', '.join(MODELS)}")
    if len(set(models)) < len(models) or len(set(seeds)) < len(seeds):
        raise UserError("expected each model and each seed once; leave out what is named twice")
    dataset = load(data)
    protocol = protocol or default_protocol(dataset)
    changed = {model: dict(fields) for model, fields in (overrides or {}).items()}
    # What would fail in every worker fails here, before anything is written.
    settings = {
        model: replace(settings_for(model, protocol, dataset.name), **changed.get(model, {}))
        for model in MODELS
    }
    parts = parts_for(dataset, protocol, min(seeds))
    NodeTask(dataset, parts, settings[MODELS[0]])
    digest = fingerprint(dataset)
    config = {
        "data": dataset.name,
        "fingerprint": digest,
        "protocol": protocol,
        "settings": {model: asdict(settings[model]) for model in MODELS},
    }
    run = create_run(out, RACE_KIND, command, config)
    if on_compile is not None and not are_compiled(models):
        on_compile()
    run_cell = cells_of(data, protocol, changed, expected=digest)
    cells = race(run_cell, models, seeds, jobs=jobs, workers=workers, folder=run, on_cell=on_cell)
    # A data set whose split has no test part is compared on validation, and the summary says so.
    part = "test" if len(parts.test) else "validation"
    summary = {
        "data": dataset.name,
        "protocol": protocol,
        "seeds": list(seeds),
        **summarise(cells, f"{part}_accuracy"),
        "losses": summarise(cells, f"{part}_loss")["contestants"],
    }
    run.finish(summary)
    return run, summary
