"""An unfinished training run on disk: one safetensors file, its counts and histories as JSON in the header.

One atomic file, so that tensors and counts can never disagree. Reading it executes nothing; whatever is not what was
written is refused before model or optimizer are touched: a bit that a disk lost would otherwise be trained on.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn, optim

from layerlab.errors import UserError
from layerlab.lab.weights import misfit, read_tensors, write_tensors

CHECKPOINT_VERSION = 2


@dataclass
class Progress:
    """Everything that a resumed run must know, apart from tensors. Plain JSON.

    Attributes:
        epoch: epochs done.
        best_epoch: the one to keep, counted from 1; 0 before the first.
        waited: epochs since a watched metric reached a new best.
        records: the best value of each watched metric.
        history: one dict of metrics an epoch.
        step_times: seconds of each epoch's optimisation steps.
        seconds: of all epochs so far, over all sittings.
    """

    epoch: int = 0
    best_epoch: int = 0
    waited: int = 0
    records: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    step_times: list[float] = field(default_factory=list)
    seconds: float = 0.0


def save_checkpoint(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: optim.Optimizer,
    best: Mapping[str, Tensor],
    progress: Progress,
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the file; an older one is replaced.
        identity: what the run is; another one cannot load it.
        model: with its present weights.
        optimizer: its state by parameter is kept, its settings are not: they are the identity's business.
        best: the weights of the best epoch.
        progress: counts and histories.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    header = {
        "version": str(CHECKPOINT_VERSION),
        "identity": identity,
        "progress": json.dumps(vars(progress)),
    }
    header["checksum"] = _checksum(tensors, header)
    write_tensors(path, tensors, header)


def load_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: optim.Optimizer
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Fill model and optimizer from a checkpoint.

    Returns:
        Progress and best weights, or None when there is no such file.

    Raises:
        UserError: the file is damaged, of another version, of other settings or of another model; model and
            optimizer are unchanged then.
    """
    mend = "delete it to start again"
    try:
        tensors, header = read_tensors(path, mend)
    except FileNotFoundError:
        return None
    if header.get("version") != str(CHECKPOINT_VERSION):
        raise UserError(
            f"expected a checkpoint of version {CHECKPOINT_VERSION}, got {header.get('version')!r}; {mend}",
            file=path,
        )
    if header.get("identity") != identity:
        raise UserError("this checkpoint belongs to a run with other settings; use another folder", file=path)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    try:
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = value
        progress = _read_progress(header["progress"])
        slots = _read_slots(groups["optimizer"], optimizer)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"the checkpoint is damaged ({error}); {mend}", file=path) from None
    for group in ("model", "best"):
        if difference := misfit(model.state_dict(), groups[group]):
            raise UserError(f"this checkpoint belongs to another model: {difference}; {mend}", file=path)
    # Last: whoever changed the file with care is told what does not fit.
    if header.get("checksum") != _checksum(tensors, header):
        raise UserError(f"the checkpoint is damaged (its checksum is another); {mend}", file=path)
    model.load_state_dict(groups["model"])
    _lay_out(slots, optimizer)
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress, groups["best"]


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """CRC-32 of all that a checkpoint holds: it finds every flipped bit, and costs next to nothing."""
    found = 0
    for name in ("version", "identity", "progress"):
        found = zlib.crc32(header[name].encode(), found)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
        # As bytes: numpy has no bfloat16.
        found = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _read_progress(text: str) -> Progress:
    """What the header holds; a ValueError, TypeError or RecursionError when it is not what was written."""
    progress = Progress(**json.loads(text))
    counts = (progress.epoch, progress.best_epoch, progress.waited)
    sound = (
        all(isinstance(count, int) for count in counts)
        and 1 <= progress.best_epoch <= progress.epoch
        and 0 <= progress.waited <= progress.epoch
        and len(progress.history) == len(progress.step_times) == progress.epoch
        and all(isinstance(record, dict) for record in (progress.records, *progress.history))
        and all(_numbers(record.values()) for record in (progress.records, *progress.history))
        and _numbers([progress.seconds, *progress.step_times])
    )
    if not sound:
        raise ValueError("its counts and histories do not fit together")
    return progress


def _lay_out(slots: Mapping[int, dict[str, Tensor]], optimizer: optim.Optimizer) -> None:
    """Give what is kept of a parameter the parameter's own layout in memory; a file knows one layout only.

    A fused optimizer goes through parameter and moments side by side in memory, and channels-last ones would meet
    moments of other entries.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, kept in slots.items():
        for slot, value in kept.items():
            if value.shape == parameters[index].shape:
                kept[slot] = torch.empty_like(parameters[index], dtype=value.dtype).copy_(value)


def _numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _read_slots(tensors: Mapping[str, Tensor], optimizer: optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimizer's state by parameter; a ValueError when it is not of these parameters."""
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, slot = name.partition(".")
        index = int(number)
        if not 0 <= index < len(shapes):
            raise ValueError(f"the optimizer has no parameter {index}")
        # One number a weight, one for all (Adam's step), or one a row or column (Adafactor's moments).
        rows = value.ndim == len(shapes[index]) and all(
            size in (1, whole) for size, whole in zip(value.shape, shapes[index], strict=True)
        )
        if value.ndim > 0 and not rows:
            raise ValueError(f"the optimizer's {name!r} has the shape {tuple(value.shape)}")
        slots.setdefault(index, {})[slot] = value
    return slots
