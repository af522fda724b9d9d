"""The race of skip connections: one cell is one arm and one seed, trained as any other run of this room."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from layerlab.errors import UserError
from layerlab.lab.damage import drawing_from
from layerlab.lab.json_files import read_json, write_json
from layerlab.lab.race import CellResult, Executor, cell_key, race
from layerlab.lab.records import RunFolder, create_run
from layerlab.lab.shared import check_shared
from layerlab.segmentation import summary
from layerlab.segmentation.arms import chosen
from layerlab.segmentation.cases import keep_cases
from layerlab.segmentation.dataset import ImageSet
from layerlab.segmentation.runs import train_run
from layerlab.segmentation.settings import Settings

RACE_KIND = "segmentation-race"
TRAINED, PROGRESS = "trained", "progress"

BUILT_IN = Settings(widths=(8, 16, 32), size=48, batch=4, epochs=10, learning_rate=1e-2, patience=None)
"""For the built-in set: three seeds of every arm in less than four minutes on two cores."""


def race_run(
    data: ImageSet,
    settings: Settings,
    *,
    arms: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    source: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    workers: Executor | None = None,
    command: Sequence[str] = (),
    on_cell: Callable[[CellResult], None] | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Train every arm with every seed, and compare them seed by seed.

    Two arms of one seed have the same split, the same order of the same squares, and the same initial values wherever
    they have the same parameters. Finished cells stay in the folder and unfinished ones go on from their checkpoint, so
    the same call resumes; more arms or seeds widen a race.

    Args:
        data: images and masks; goes to the worker processes.
        settings: of every arm, but for its skips.
        arms: names, see `layerlab.segmentation.arms.chosen`.
        seeds: the same for every arm.
        out: the run folder; every cell's own run is in its folder ``trained``.
        source: where the data come from, as JSON, for the record.
        jobs: processes, each on ``settings.threads`` threads; the number of cores when None.
        workers: processes that are there already, or a cluster whose machines all see ``out`` and the images, in place
            of ``jobs`` new processes.
        command: what was typed, for the record.
        on_cell: called with each finished cell.

    Returns:
        The run and its results, see `layerlab.segmentation.summary.summarised`.

    Raises:
        UserError: see `train_run`; an unknown arm; data that changed since the race began.
    """
    wanted = chosen(arms, len(settings.widths))
    if not data.parts(min(seeds, default=0)).validation:
        raise UserError(f"expected at least one validation image of {data.name}, got none; add images")
    config = {
        "data": data.name,
        "source": dict(source or {}),
        "images": len(data),
        "channels": data.channels,
        "classes": list(data.classes),
        "settings": {name: value for name, value in asdict(settings).items() if name != "skips"},
    }
    if workers is not None:
        workers.check(functools.partial(_check_images, data, _some_pixels(data)))
        check_shared(workers, out)
    run = create_run(out, RACE_KIND, command, config)
    for name in (TRAINED, PROGRESS):
        (run.path / name).mkdir(exist_ok=True)
    cells = race(
        functools.partial(_run_cell, data, settings, run.path, dict(source or {})),
        list(wanted),
        list(seeds),
        jobs=jobs,
        workers=workers,
        folder=run,
        on_cell=on_cell,
    )
    _check_same_data(cells)
    with drawing_from(run.path, "remove its file in cells to train it again"):
        found = summary.summarised(cells, list(data.classes), wanted)
    keep_cases(run.path, data, settings, cells, min(seeds))
    results = {"data": data.name, "seeds": list(seeds), "arms": wanted, **found}
    run.finish(results)
    return run, results


def trained_folder(folder: Path, arm: str, seed: int) -> Path:
    """The run folder of one cell, which `layerlab.segmentation.runs.open_trained` opens."""
    return folder / TRAINED / cell_key(arm, seed)


def under_way(folder: Path, key: str) -> dict[str, float]:
    """How far an unfinished cell is: ``epoch``, ``epochs``, ``validation_iou``; empty where nothing is known."""
    try:
        found = read_json(folder / PROGRESS / f"{key}.json")
    except UserError:
        return {}
    return found if isinstance(found, dict) and found.keys() >= {"epoch", "epochs", "validation_iou"} else {}


def _run_cell(
    data: ImageSet, settings: Settings, folder: Path, source: dict[str, Any], arm: str, seed: int
) -> CellResult:
    key = cell_key(arm, seed)
    told = folder / PROGRESS / f"{key}.json"

    def tell(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
        write_json(told, {"epoch": epoch, "epochs": epochs, "validation_iou": metrics["validation_iou"]})

    kinds = chosen([arm], len(settings.widths))[arm]
    run = train_run(
        data,
        replace(settings, skips=kinds),
        out=trained_folder(folder, arm, seed),
        seed=seed,
        source=source,
        command=["layerlab", "segment", "race"],
        on_epoch=tell,
    )
    told.unlink(missing_ok=True)
    results, config = run.meta["results"], run.meta["config"]
    return {
        **{
            name: results[name]
            for name in (
                *("best_epoch", "epochs", "parameters", "step_seconds", "seconds"),
                *("curves", "measures", "images"),
            )
        },
        "metrics": metrics_of(results),
        "settings": config["settings"],
        "fingerprint": config["fingerprint"],
        "parts": {name: len(names) for name, names in config["images"].items()},
    }


def metrics_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by which arms are compared, of a training's results.

    For each measured part the means over classes of `layerlab.segmentation.metrics.measure`, ``accuracy`` and
    ``calibration_error``, as ``PART_NAME``; ``stem_gradient``, the geometric mean over epochs of the norm of the
    gradient at the first layer, ``stem_gradient_first`` and ``stem_gradient_last``.
    """
    found: dict[str, float] = {}
    for part, measures in results["measures"].items():
        for name in summary.MEASURES:
            found[f"{part}_{name}"] = measures[f"mean_{name}" if name in summary.BY_CLASS else name]
    norms = [norm for norm in results["curves"].get("stem_gradient", []) if norm]
    if norms:
        mean = math.exp(math.fsum(math.log(norm) for norm in norms) / len(norms))
        found |= {"stem_gradient": mean, "stem_gradient_first": norms[0], "stem_gradient_last": norms[-1]}
    return found


def _some_pixels(data: ImageSet) -> str:
    """A digest of three of the images with their masks."""
    digest = hashlib.sha256()
    for index in sorted({0, len(data) // 2, len(data) - 1}):
        for pixels in data.read(index):
            digest.update(f"{pixels.dtype.str}{pixels.shape}".encode())
            digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _check_images(data: ImageSet, expected: str) -> None:
    """That the images are here; another machine runs this. What is trained on is compared behind the race."""
    if _some_pixels(data) != expected:
        raise UserError(
            f"the images of {data.name} are others than where the race began; copy those to the same path"
        )


def _check_same_data(cells: Mapping[str, CellResult]) -> None:
    """Cells of one seed have trained on the same pixels, or they are no pairs."""
    seen: dict[int, tuple[str, str]] = {}
    for key, cell in cells.items():
        first, digest = seen.setdefault(cell["seed"], (key, cell["fingerprint"]))
        if cell["fingerprint"] != digest:
            raise UserError(
                f"the data have changed since the race began: {first} and {key} trained on different pixels; "
                "race again with another --out"
            )
