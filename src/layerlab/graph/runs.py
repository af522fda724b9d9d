"""Training runs of this room on disk: train one model and keep it, open what was trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from layerlab.errors import UserError
from layerlab.graph.datasets import NodeDataset, load
from layerlab.graph.experiments import fingerprint, task_for
from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.memory import Choice, choose
from layerlab.graph.sampling.task import BatchTask
from layerlab.graph.settings import Settings, settings_for
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.task import NodeTask, build_model, normalise_rows, parts_for, schedule_for
from layerlab.lab.kernels import kept as compiled
from layerlab.lab.process_group import Group
from layerlab.lab.records import RunFolder, open_run
from layerlab.lab.trained import CHECKPOINT, begin_training, finish_training, open_training, rebuild
from layerlab.lab.training import fit

TRAIN_KIND = "graph-train"
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


def are_compiled(models: Sequence[str], *, samples: bool = False) -> bool:
    """Whether this machine keeps compiled code of the kernels that these models train with."""
    files = [
        "kernels.products_cpu",
        "kernels.loss_cpu",
        *(["kernels.attention_cpu", "kernels.attention_backward_cpu"] if "gat" in models else []),
        *(["sampling.kernel_cpu"] if samples else []),
    ]
    return compiled.are_kept(f"layerlab.graph.{file}" for file in files)


def train_run(
    data: str,
    model: str,
    *,
    out: Path,
    protocol: str | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    batching: Batching | None = None,
    command: Sequence[str] = (),
    on_choice: Callable[[Choice], None] | None = None,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
    on_compile: Callable[[], None] | None = None,
    group: Group | None = None,
    partition: str | None = None,
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
        batching: mini-batches; its fan-outs, where given, say how many layers a GCN or GAT has. None: a full
            batch where an estimate says that it fits into memory, or what was so chosen when the folder's run began.
        command: what was typed, for the record.
        on_choice: called before anything is trained with what was chosen, full batch or mini-batches, and why.
        on_epoch: called with the epoch, the largest possible epoch and the metrics.
        on_compile: called before training if kernels are compiled first, which takes about 20 seconds.
        group: processes that train this model together, each of which calls this with the same arguments: they share
            mini-batches, of 1,024 nodes where ``batching`` is None. Rank 0 alone writes.
        partition: "hash" or "metis": each process of the group holds the features of a part of the nodes, see
            `layerlab.graph.sampling.partition`. None: each reads all.

    Returns:
        The finished run; its ``meta["results"]`` holds metrics, curves, times, parameters and, as ``memory``, the
        choice of batches.

    Raises:
        UserError: unknown data, model or protocol, a setting out of range, data that the protocol does not fit, a
            folder that cannot be written or holds another run, or processes that see different data.
    """
    if group is None:
        if partition is not None:
            raise UserError(
                "a partition is over several processes; add --processes, or leave --partition out"
            )
        prepared = _prepare(data, model, out, protocol, seed, overrides, batching)
    else:
        prepared = group.everywhere(
            lambda: _prepare(data, model, out, protocol, seed, overrides, batching, group, partition)
        )
        _expect_the_same(group, prepared.config)
    task, settings, config, choice = prepared
    run, finished = begin_training(out, TRAIN_KIND, command, config, RESULTS, group)
    if finished:
        return run
    if on_choice is not None:
        on_choice(choice)
    if on_compile is not None and not are_compiled((model,), samples=choice.batching is not None):
        on_compile()
    result = fit(
        task,
        schedule_for(settings),
        seed=seed,
        checkpoint=run.path / CHECKPOINT,
        config=config,
        on_epoch=None
        if on_epoch is None
        else lambda epoch, metrics: on_epoch(epoch, settings.epochs, metrics),
        group=group,
    )
    finish_training(run, result.model, lambda: {**result.record(), "memory": choice.record()}, group)
    return run


class _Prepared(NamedTuple):
    """What is known of a run before its folder is touched."""

    task: NodeTask | BatchTask
    settings: Settings
    config: dict[str, Any]
    choice: Choice


def _prepare(
    data: str,
    model: str,
    out: Path,
    protocol: str | None,
    seed: int,
    overrides: Mapping[str, Any] | None,
    batching: Batching | None,
    group: Group | None = None,
    partition: str | None = None,
) -> _Prepared:
    dataset = load(data)
    protocol = protocol or default_protocol(dataset)
    kept = None if batching else _chosen_before(out)
    changed = {**layers_of(batching or kept, model), **(overrides or {})}
    settings = replace(settings_for(model, protocol, dataset.name), **changed)
    parts = parts_for(dataset, protocol, seed)
    processes = 1 if group is None else group.size
    choice = choose(dataset, parts, settings, batching or kept, processes)
    task = task_for(dataset, parts, settings, choice.batching, group, partition)
    config: dict[str, Any] = {
        "data": dataset.name,
        "fingerprint": fingerprint(dataset),
        "protocol": protocol,
        "seed": seed,
        "settings": asdict(settings),
        "features": dataset.num_features,
        "classes": list(dataset.class_names),
    }
    if choice.batching is not None:
        config["batching"] = {**choice.batching.record(), "asked": batching is not None}
    if processes > 1:
        config["processes"] = processes
    if partition is not None:
        config["partition"] = partition
    return _Prepared(task, settings, config, choice)


def _expect_the_same(group: Group, config: dict[str, Any]) -> None:
    """That all processes have the same data, and then the same of everything else."""
    group.expect_same("data", config["fingerprint"], "give each machine the same DATA, file by file")
    group.expect_same("options", config, "start all with the same command")


def layers_of(batching: Batching | None, model: str) -> dict[str, int]:
    """The setting that fan-outs make: one a layer.

    >>> layers_of(Batching(8, (15, 10, 5)), "gcn"), layers_of(Batching(8, (15, 10, 5)), "mlp")
    ({'layers': 3}, {})
    """
    given = () if batching is None else batching.fanouts
    return {"layers": len(given)} if given and model in ("gcn", "gat") else {}


def _chosen_before(out: Path) -> Batching | None:
    """The mini-batches that were chosen for a run that is there already: the free memory changes between sittings."""
    try:
        recorded = open_run(out, TRAIN_KIND).meta["config"].get("batching")
        if recorded is None or recorded["asked"]:
            return None
        return Batching(recorded["size"], tuple(recorded["fanouts"]))
    except (UserError, KeyError, TypeError):
        return None  # no run, or not one to go on with, which `create_run` says


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
        return normalise_rows(self.dataset.feature_matrix)


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
