"""Finished training runs: known by their results and their weights, rebuilt from them alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.lab.files import sha256_of
from layerlab.lab.records import RunFolder, create_run
from layerlab.lab.trained import WEIGHTS, finish_training, is_trained, open_training, rebuild
from layerlab.lab.weights import write_tensors


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Dropout())


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = create_run(tmp_path / "run", "training", "train", {})
    finish_training(run, model(), lambda: {"loss": 0.5})
    return run


def test_a_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2_000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    with pytest.raises(UserError, match="cannot be read"):
        sha256_of(tmp_path)


def test_a_finished_run_is_known_by_its_results(run: RunFolder) -> None:
    assert is_trained(run, ["loss"])
    assert not is_trained(run, ["loss", "accuracy"])
    del run.meta["results"]["weights_sha256"]
    assert not is_trained(run, ["loss"])
    run.meta["results"] = "done"
    assert not is_trained(run, [])


def test_a_finished_run_is_known_by_its_weights(run: RunFolder) -> None:
    write_tensors(run.path / WEIGHTS, model().state_dict())
    assert not is_trained(run, ["loss"])
    (run.path / WEIGHTS).unlink()
    assert not is_trained(run, ["loss"])


def test_what_is_opened_is_finished_and_of_that_kind(run: RunFolder, tmp_path: Path) -> None:
    assert open_training(run.path, "training", ["loss"]).meta == run.meta
    with pytest.raises(UserError, match="expected a run of kind 'race'"):
        open_training(run.path, "race", ["loss"])
    with pytest.raises(UserError, match="not the one that this run wrote"):
        open_training(run.path, "training", ["accuracy"])
    create_run(tmp_path / "begun", "training", "train", {})
    with pytest.raises(UserError, match="not finished; run its command again"):
        open_training(tmp_path / "begun", "training", [])


def test_a_model_is_rebuilt_for_use_and_draws_nothing(tmp_path: Path) -> None:
    run, trained = create_run(tmp_path / "run", "training", "train", {}), model()
    finish_training(run, trained, dict)
    before = torch.get_rng_state()
    again = rebuild(run, model)
    assert not again.training
    assert torch.equal(again[0].weight, trained[0].weight)  # type: ignore[index,arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_larger_than_its_weights_is_never_built(run: RunFolder) -> None:
    def vast() -> nn.Module:
        layer = nn.Linear(100_000, 100_000)
        assert layer.weight.is_meta
        return layer

    with pytest.raises(UserError, match="do not fit model"):
        rebuild(run, vast)
