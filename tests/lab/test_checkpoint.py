"""Training that was killed, interrupted or tampered with: the same bits, or one line that says why not."""

from __future__ import annotations

import json
import math
import random
import signal
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from toy_tasks import (
    BY_LOSS,
    EPOCHS,
    Regression,
    Scripted,
    assert_same,
    in_a_child,
    interrupt,
    interrupted_at,
    weight,
)

from layerlab.errors import UserError
from layerlab.lab.checkpoint import CHECKPOINT_VERSION
from layerlab.lab.schedule import Schedule
from layerlab.lab.training import FitResult, fit

pytestmark = pytest.mark.usefixtures("ctrl_c")

# Resuming


def test_resuming_after_any_epoch_gives_the_same_bits(tmp_path: Path) -> None:
    whole = fit(Regression(), BY_LOSS, seed=3)
    losses = [epoch["validation_loss"] for epoch in whole.history]
    new_bests = {k + 1 for k in range(EPOCHS) if losses[k] < min(losses[:k], default=math.inf)}
    assert 1 < len(new_bests) < EPOCHS, "the toy must have epochs that set a new best and others that do not"
    for epoch in range(1, EPOCHS + 1):
        file = tmp_path / f"{epoch}.safetensors"
        task = Regression()
        interrupted_at(epoch, file, task)
        assert task.at_batch(epoch, 1) is None
        epochs_run: list[int] = []
        resumed = fit(
            task, BY_LOSS, seed=3, checkpoint=file, on_epoch=lambda now, _, seen=epochs_run: seen.append(now)
        )
        assert_same(resumed, whole)
        assert epochs_run == list(range(epoch + 1, EPOCHS + 1))


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
        (torch.optim.Adafactor, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or ",".join(value) or "plain",
)
def test_an_optimizers_state_is_resumed(
    tmp_path: Path, optimizer: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    interrupted_at(4, tmp_path / "c", Regression(optimizer, **options))
    resumed = fit(Regression(optimizer, **options), BY_LOSS, seed=3, checkpoint=tmp_path / "c")
    assert_same(resumed, fit(Regression(optimizer, **options), BY_LOSS, seed=3))


def test_a_run_resumed_twice_and_a_finished_one_asked_again(tmp_path: Path) -> None:
    file, task = tmp_path / "c", Regression()
    for epoch in (2, 5, EPOCHS):
        interrupted_at(epoch, file, task)
    again = fit(task, BY_LOSS, seed=3, checkpoint=file)
    assert_same(again, fit(Regression(), BY_LOSS, seed=3))
    assert again.seconds > 0


def test_patience_is_resumed(tmp_path: Path) -> None:
    metrics = [{"accuracy": value} for value in (0.1, 0.5, 0.4, 0.3, 0.2, 0.9)]
    schedule = Schedule(6, "accuracy", patience=3)
    task = Scripted(*metrics)
    task.before_loss = lambda epoch: interrupt() if epoch == 4 else None
    with pytest.raises(KeyboardInterrupt):
        fit(task, schedule, checkpoint=tmp_path / "c")
    task.before_loss = lambda epoch: None
    resumed = fit(task, schedule, checkpoint=tmp_path / "c")
    assert (len(resumed.history), resumed.best_epoch, weight(resumed)) == (5, 2, 2.0)


def test_a_killed_process_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    file = tmp_path / "c"
    child = in_a_child(
        "task = Regression()\n"
        "task.at_batch = lambda now, batch: interrupt(signal.SIGKILL) if (now, batch) == (5, 1) else None\n"
        "fit(task, BY_LOSS, seed=3, checkpoint=Path(sys.argv[1]), every_seconds=0)",
        file,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
    epochs: list[int] = []
    resumed = fit(
        Regression(), BY_LOSS, seed=3, checkpoint=file, on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == [5, 6, 7, 8]
    assert_same(resumed, fit(Regression(), BY_LOSS, seed=3))


# Ctrl-C


def test_the_first_ctrl_c_ends_the_epoch_and_the_handler_is_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    task = Regression()
    seen = []
    task.at_batch = lambda epoch, batch: (
        seen.append((epoch, batch)),
        interrupt() if seen[-1] == (2, 0) else None,
    )
    with pytest.raises(KeyboardInterrupt):
        fit(task, BY_LOSS, checkpoint=tmp_path / "c")
    assert seen[-1] == (2, 2)
    assert signal.getsignal(signal.SIGINT) is before
    with safe_open(tmp_path / "c", "pt") as file:
        assert json.loads(file.metadata()["progress"])["epoch"] == 2


def test_the_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    task = Regression()
    seen = []
    task.at_batch = lambda epoch, batch: (seen.append((epoch, batch)), interrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(task, BY_LOSS, checkpoint=tmp_path / "c")
    assert seen == [(1, 0), (1, 1)]
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "c").exists()


def test_ctrl_c_in_the_callback_of_the_last_epoch_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(
            Regression(),
            BY_LOSS,
            checkpoint=tmp_path / "c",
            on_epoch=lambda epoch, _: interrupt() if epoch == EPOCHS else None,
        )
    assert_same(fit(Regression(), BY_LOSS, checkpoint=tmp_path / "c"), fit(Regression(), BY_LOSS))


def test_without_a_checkpoint_ctrl_c_stops_at_once() -> None:
    task = Regression()
    seen = []
    task.at_batch = lambda epoch, batch: (seen.append((epoch, batch)), interrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(task, BY_LOSS)
    assert seen == [(1, 0)]


def test_ctrl_c_that_somebody_switched_off_stays_off(tmp_path: Path) -> None:
    # A shell starts a script's background jobs with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        task = Regression()
        task.at_batch = lambda epoch, batch: interrupt()
        assert len(fit(task, BY_LOSS, checkpoint=tmp_path / "c").history) == EPOCHS
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_other_than_the_main_one_can_train(tmp_path: Path) -> None:
    results: list[FitResult] = []
    worker = threading.Thread(
        target=lambda: results.append(fit(Regression(), BY_LOSS, checkpoint=tmp_path / "c", every_seconds=0))
    )
    worker.start()
    worker.join()
    assert_same(results[0], fit(Regression(), BY_LOSS))


# Writing


def test_a_checkpoint_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "c"
    with pytest.raises(UserError, match="cannot be written") as caught:
        fit(Regression(), BY_LOSS, checkpoint=file, every_seconds=0)
    assert str(file) in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: cannot be read"):
        fit(Regression(), BY_LOSS, checkpoint=tmp_path / "folder")


def test_checkpoints_are_written_no_more_often_than_asked(tmp_path: Path) -> None:
    fit(Regression(), BY_LOSS, checkpoint=tmp_path / "c", every_seconds=60)
    assert list(tmp_path.iterdir()) == []
    epochs = []

    def look(epoch: int, metrics: dict[str, float]) -> None:
        with safe_open(tmp_path / "c", "pt") as file:
            epochs.append(json.loads(file.metadata()["progress"])["epoch"])

    interrupted_at(1, tmp_path / "c", Regression())
    fit(Regression(), BY_LOSS, seed=3, checkpoint=tmp_path / "c", every_seconds=0, on_epoch=look)
    assert epochs == list(range(1, EPOCHS))


def test_the_clock_starts_anew_with_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, epochs = Scripted(*[{"a": 1.0}] * 8), []
    monkeypatch.setattr("layerlab.lab.training.time.monotonic", lambda: 4.0 * task.epoch)
    monkeypatch.setattr(
        "layerlab.lab.training.save_checkpoint", lambda *arguments: epochs.append(arguments[-1].epoch)
    )
    fit(task, Schedule(8), checkpoint=tmp_path / "c", every_seconds=10)
    assert epochs == [3, 6]


# Foreign, damaged and hostile checkpoints


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A checkpoint of `Regression` under `BY_LOSS` with seed 3, after epoch 4."""
    interrupted_at(4, tmp_path / "c.safetensors", Regression())
    return tmp_path / "c.safetensors"


def rewrite(
    file: Path,
    header: Callable[[dict[str, str]], Any] = dict,
    tensors: Callable[[dict[str, Tensor]], Any] = dict,
) -> None:
    with safe_open(file, "pt") as source:
        parts = {name: source.get_tensor(name).clone() for name in source.keys()}  # noqa: SIM118 (no dict)
        save_file(tensors(parts), file, header(source.metadata()))


def refused(file: Path, message: str, task: Any = None, **options: Any) -> None:
    """Resuming must fail with one line that names the file, and leave the file alone."""
    content = file.read_bytes()
    arguments = {"schedule": BY_LOSS, "seed": 3, **options}
    with pytest.raises(UserError, match=message) as caught:
        fit(task or Regression(), checkpoint=file, **arguments)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 4},
        {"config": {"seed": 3}},
        {"config": {"lr": 0.1}},
        {"schedule": Schedule(EPOCHS + 1, "validation_loss")},
        {"schedule": Schedule(EPOCHS, "loss")},
        {"schedule": Schedule(EPOCHS, "validation_loss", 3)},
    ],
    ids=str,
)
def test_a_checkpoint_of_other_settings_is_refused(sound: Path, options: dict[str, Any]) -> None:
    refused(sound, "other settings", **options)


def test_the_config_belongs_to_the_checkpoint_in_any_order(tmp_path: Path) -> None:
    task = Regression()
    task.at_batch = lambda now, batch: interrupt() if (now, batch) == (2, 1) else None
    with pytest.raises(KeyboardInterrupt):
        fit(task, BY_LOSS, checkpoint=tmp_path / "c", config={"a": 1, "b": [2]})
    refused(tmp_path / "c", "other settings", seed=0, config={"a": 1, "b": [3]})
    epochs: list[int] = []
    config = {"b": [2], "a": 1}
    fit(
        Regression(),
        BY_LOSS,
        checkpoint=tmp_path / "c",
        config=config,
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )
    assert epochs[0] == 3


@pytest.mark.parametrize("version", ["1", "", None])
def test_another_version_is_refused(sound: Path, version: str | None) -> None:
    def change(header: dict[str, str]) -> dict[str, str]:
        del header["version"]
        return header if version is None else {**header, "version": version}

    rewrite(sound, change)
    refused(sound, f"version {CHECKPOINT_VERSION}, got {version!r}")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "c")
    refused(tmp_path / "c", f"version {CHECKPOINT_VERSION}, got None")


HOSTILE_HEADERS = {
    "a file without end": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{no}",
    "nested": struct.pack("<Q", 90_017) + b'{"__metadata__": ' + b"[" * 90_000,
    "a pickle's dtype": struct.pack("<Q", 61)
    + b'{"x":{"dtype":"object","shape":[1],"data_offsets":[0,8]}}    '
    + b"\0" * 8,
    "empty": b"",
    "text": b"hello, this is no checkpoint at all",
    "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0eecho > /tmp/no\x85R.",
}


@pytest.mark.parametrize("content", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content)
    refused(tmp_path / "c", "cannot be read .*; delete it to start again")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(sound: Path, kept: float) -> None:
    content = sound.read_bytes()
    sound.write_bytes(content[: int(len(content) * kept)])
    refused(sound, "cannot be read .*; delete it to start again")


def progress(**changes: Any) -> Callable[[dict[str, str]], dict[str, str]]:
    def change(header: dict[str, str]) -> dict[str, str]:
        return {**header, "progress": json.dumps({**json.loads(header["progress"]), **changes})}

    return change


HOSTILE_PROGRESS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "absent": lambda header: {name: value for name, value in header.items() if name != "progress"},
    "no JSON": lambda header: {**header, "progress": "{epoch: 4"},
    "a list": lambda header: {**header, "progress": "[]"},
    "a number": lambda header: {**header, "progress": "4"},
    "empty object": lambda header: {**header, "progress": "{}"},
    "nested without end": lambda header: {**header, "progress": "[" * 200_000},
    "a number of thousands of digits": lambda header: {**header, "progress": '{"epoch": ' + "9" * 5000 + "}"},
    "an attribute of objects": progress(__class__="os"),
    "an unknown field": progress(epochs=4),
    "epoch a string": progress(epoch="4"),
    "epoch a float": progress(epoch=4.0),
    "epoch past the history": progress(epoch=5),
    "best epoch zero": progress(best_epoch=0),
    "best epoch to come": progress(best_epoch=5),
    "waited null": progress(waited=None),
    "waited negative": progress(waited=-1),
    "records a list": progress(records=[]),
    "a record's value a string": progress(records={"validation_loss": "0"}),
    "history null": progress(history=None),
    "history of numbers": progress(history=[1, 2, 3, 4]),
    "history of strings": progress(history=[{"loss": "x"}] * 4),
    "history too short": progress(history=[{"loss": 1.0}] * 3),
    "history an object": progress(history={"0": 1, "1": 1, "2": 1, "3": 1}),
    "history a string": progress(history="four"),
    "step times a string": progress(step_times="four"),
    "step times of null": progress(step_times=[None] * 4),
    "step times too many": progress(step_times=[0.1] * 5),
    "seconds a string": progress(seconds="0"),
}


@pytest.mark.parametrize("change", HOSTILE_PROGRESS.values(), ids=HOSTILE_PROGRESS.keys())
def test_counts_and_histories_that_were_not_written_so_are_refused(
    sound: Path, change: Callable[..., Any]
) -> None:
    rewrite(sound, change)
    refused(sound, "the checkpoint is damaged .*; delete it to start again")


def without(name: str, **others: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: value for key, value in {**tensors, **others}.items() if key != name}


HOSTILE_TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "unknown group": (without("", **{"nonsense.a": torch.ones(1)}), "damaged .'nonsense'"),
    "no group": (without("", a=torch.ones(1)), "damaged .'a'"),
    "model lacks one": (without("model.0.bias"), "another model: '0.bias' should be float32 8, is absent"),
    "best lacks one": (without("best.0.bias"), "another model: '0.bias'"),
    "model has one more": (without("", **{"model.9.bias": torch.ones(1)}), "'9.bias' should be absent"),
    "another shape": (
        without("", **{"best.0.bias": torch.ones(1, 8)}),
        "should be float32 8, is float32 1 x 8",
    ),
    "another dtype": (
        without("", **{"model.0.bias": torch.ones(8).double()}),
        "should be float32 8, is float64 8",
    ),
    "a slot without number": (without("", **{"optimizer.x.step": torch.ones(())}), "damaged .*'x'"),
    "a slot of no parameter": (without("", **{"optimizer.6.step": torch.ones(())}), "no parameter 6"),
    "a slot of a negative one": (without("", **{"optimizer.-1.step": torch.ones(())}), "no parameter -1"),
    "a slot too long": (
        without("", **{"optimizer.1.exp_avg": torch.ones(9)}),
        "1.exp_avg' has the shape .9,",
    ),
    "a slot too short": (without("", **{"optimizer.1.exp_avg": torch.ones(4)}), "has the shape .4,"),
    "a slot too deep": (without("", **{"optimizer.1.exp_avg": torch.ones(1, 8)}), "has the shape .1, 8"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS.keys())
def test_tensors_that_were_not_written_so_are_refused(
    sound: Path, change: Callable[..., Any], message: str
) -> None:
    rewrite(sound, tensors=change)
    refused(sound, message)


def test_a_checkpoint_of_another_model_is_refused_before_anything_is_loaded(sound: Path) -> None:
    task = Regression()
    model = nn.Linear(4, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task.build = lambda: model  # type: ignore[method-assign]
    refused(sound, "damaged|another model", task)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(sound: Path, seed: int) -> None:
    content, draw = sound.read_bytes(), random.Random(seed)
    whole = fit(Regression(), BY_LOSS, seed=3)
    taken = 0
    for _ in range(40):
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        sound.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
        try:
            found = fit(Regression(), BY_LOSS, seed=3, checkpoint=sound)
        except UserError as error:
            assert str(sound) in str(error)
        else:
            # Within spaces that fill up the header.
            assert_same(found, whole)
            taken += 1
    assert taken < 10


def test_a_lost_bit_of_a_weight_is_not_trained_on(sound: Path) -> None:
    def lose(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["best.0.bias"].view(torch.uint8)[3] ^= 1
        return tensors

    rewrite(sound, tensors=lose)
    refused(sound, "damaged .its checksum is another.; delete it to start again")


def test_a_sound_checkpoint_that_was_only_copied_is_taken(sound: Path) -> None:
    rewrite(sound)
    assert_same(fit(Regression(), BY_LOSS, seed=3, checkpoint=sound), fit(Regression(), BY_LOSS, seed=3))
