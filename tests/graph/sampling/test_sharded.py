"""Mini-batches that processes share: the same training as one process's, on the same batches."""

from __future__ import annotations

from pathlib import Path

from planted_data import planted

from layerlab.graph.store import save_dataset
from layerlab.lab.process_group import Group

from ...ranks import in_ranks
from .rank_training import SETTINGS, every_model, one_model, task_of
from .same_training import expect_the_same

RANKS = Path(__file__).with_name("rank_training.py")


def test_two_processes_train_every_model_as_one_does(tmp_path: Path) -> None:
    for name, nodes in (("0", 60), ("1", 63)):
        save_dataset(planted(nodes), tmp_path / name)
    first, second = in_ranks(2, RANKS, "every_model", str(tmp_path))
    assert first == second  # to the bit
    alone = every_model(None)
    for model in SETTINGS:
        expect_the_same(first[model], alone[model])
    # Each draws its own dropout: trained, and not what one process trains.
    losses = [epoch["loss"] for epoch in first["dropout"]["history"]]
    assert losses[0] > losses[-1]
    assert "at most as many processes as nodes in a batch, 1, got 2" in first["error"]
    # Other data, no data, other options: told before anything is written.
    other, missing, seeds = first["stores"]
    assert "different data (digests: rank 0 " in other
    assert missing.startswith("rank 1 of 2: expected a data set")
    assert "different options" in seeds
    assert not (tmp_path / "run").exists()


def test_four_processes_train_as_one_does() -> None:
    found = in_ranks(4, RANKS, "one_model")
    assert all(other == found[0] for other in found)
    expect_the_same(found[0], one_model(None))


def test_shares_are_the_batch_and_weigh_what_they_hold() -> None:
    import torch

    groups = [Group(rank, 4, torch.device("cpu")) for rank in range(4)]
    whole = task_of("gcn", None)
    shares = [task_of("gcn", group) for group in groups]
    batches = []
    for task in (whole, *shares):
        task.build()
        torch.manual_seed(1)
        batches.append(list(task.batches(1)))
    for batch, *parts in zip(*batches, strict=True):
        held = [part for part in parts if part.weight]
        assert torch.equal(torch.cat([part.labels for part in held]), batch.labels)
        assert sum(part.weight for part in parts) == 4
        assert batch.weight == 1
        # The neighbours of a node are those that one process draws: a share's rows are rows of the whole.
        rows = sum(part.operators[-1].nnz for part in held if part.operators)
        assert batch.operators is not None
        assert rows == batch.operators[-1].nnz
    assert [part[-1].weight for part in batches[1:]] == [0, 0, 0, 4]
    assert [len(part[-1].labels) for part in batches[1:]] == [1, 1, 1, 1]
