"""Every command that writes a page, asked for a small one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerlab.graph import experiments, runs

from ..squares import written

ROOT = Path(__file__).parents[2]
CLUB = ROOT / "examples" / "graph_folder"
PARITY = ROOT / "examples" / "parity.py"
MODELS = ROOT / "tests" / "cli" / "given_models.py"
CHOICE = ROOT / "tests" / "estimators" / "policy" / "given_environments.py"
SEGMENT = ("--widths", "2,4", "--size", 16, "--epochs", 1, "--batch", 2)

Run = Callable[..., None]
"""Runs a command line, which must succeed."""


def graph_inspect(run: Run, folder: Path) -> Path:
    run("graph", "inspect", CLUB, "--report", "--out", folder / "page")
    return folder / "page"


def graph_race(run: Run, folder: Path) -> Path:
    run("graph", "race", CLUB, "--models", "gcn,mlp", "--seeds", 2, "--jobs", 1, "--out", folder / "race")
    return folder / "race"


def graph_attention(run: Run, folder: Path) -> Path:
    run("graph", "train", CLUB, "--model", "gat", "--out", folder / "gat")
    run("graph", "attention", folder / "gat", CLUB, "--out", folder / "page", "--report")
    return folder / "page"


def model_inspect(run: Run, folder: Path) -> Path:
    run("model", "inspect", f"{MODELS}:mlp", "--report", "--out", folder / "page")
    return folder / "page"


def model_attention(run: Run, folder: Path) -> Path:
    asked = ("--budget", 1, "--mechanism", "linear", "--report", "--out", folder / "page")
    run("model", "attention", f"{ROOT / 'examples' / 'transformer.py'}:model", *asked)
    return folder / "page"


def model_linearize(run: Run, folder: Path) -> Path:
    asked = ("--mechanism", "linear", "--max-error", 0.9, "--out", folder / "page")
    run("model", "linearize", f"{ROOT / 'examples' / 'transformer.py'}:model", *asked)
    return folder / "page"


def estimator_inspect(run: Run, folder: Path) -> Path:
    run("estimator", "inspect", f"{PARITY}:f", "--bits", 5, "--report", "--out", folder / "page")
    return folder / "page"


def estimator_optimise(run: Run, folder: Path) -> Path:
    given = ("--bits", 6, "--budget", 500, "--out", folder / "page", "--report")
    run("estimator", "optimise", f"{PARITY}:f", *given)
    return folder / "page"


def estimator_policy(run: Run, folder: Path) -> Path:
    small = ("--steps", 160, "--batch", 8, "--hidden", 8, "--episodes", 10, "--jobs", 1, "--seeds", 2)
    compared = ("--baseline", "mean,value", "--report", "--out", folder / "page")
    run("estimator", "policy", f"{CHOICE}:Choice", *small, *compared)
    return folder / "page"


def codebook_inspect(run: Run, folder: Path) -> Path:
    run("codebook", "make", "--dim", 16, "--count", 64, "--out", folder / "codes.npz")
    run("codebook", "inspect", folder / "codes.npz", "--report", "--out", folder / "page")
    return folder / "page"


def codebook_project(run: Run, folder: Path) -> Path:
    np.save(folder / "points.npy", np.random.default_rng(0).standard_normal((40, 600)))
    run("codebook", "project", folder / "points.npy", "--eps", "0.5", "--report")
    (page,) = Path("runs").glob("project-*")
    return page.absolute()


def segment_check(run: Run, folder: Path) -> Path:
    run("segment", "check", *written(folder), "--report", "--out", folder / "page")
    return folder / "page"


def segment_train(run: Run, folder: Path) -> Path:
    run("segment", "train", *written(folder), *SEGMENT, "--out", folder / "page")
    return folder / "page"


def segment_predict(run: Run, folder: Path) -> Path:
    images, masks = written(folder)
    run("segment", "train", images, masks, *SEGMENT, "--out", folder / "net")
    run("segment", "predict", folder / "net", images, "--out", folder / "page")
    return folder / "page"


def segment_race(run: Run, folder: Path) -> Path:
    asked = (*SEGMENT, "--augment", "none", "--jobs", 1, "--arms", "on,off,zero", "--seeds", 2)
    run("segment", "race", *written(folder), *asked, "--out", folder / "page")
    return folder / "page"


def reproduce(run: Run, folder: Path) -> Path:
    """Of one part with theorems alone and of one with experiments, whose models are trained for two epochs."""
    original = experiments.settings_for
    parts = ("--only", "gradflow", "--only", "graph")
    with pytest.MonkeyPatch.context() as patch:
        for module in (experiments, runs):
            patch.setattr(module, "settings_for", lambda *given: replace(original(*given), epochs=2))
        run("reproduce", *parts, "--quick", "--jobs", 1, "--out", folder / "page")
    return folder / "page"


PAGES: dict[str, Callable[[Run, Path], Path]] = {
    make.__name__.replace("_", " "): make
    for make in (
        reproduce,
        graph_inspect,
        graph_race,
        graph_attention,
        model_inspect,
        model_attention,
        model_linearize,
        estimator_inspect,
        estimator_optimise,
        estimator_policy,
        codebook_inspect,
        codebook_project,
        segment_check,
        segment_train,
        segment_predict,
        segment_race,
    )
}
"""Command -> makes its page: given what runs a command line and an empty folder, the folder of ``report.html``."""
