"""Training runs: what is kept, that a kill changes nothing, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import Shapes

from layerlab.errors import UserError
from layerlab.lab.trained import WEIGHTS
from layerlab.lab.weights import read_tensors
from layerlab.segmentation.metrics import count, measure
from layerlab.segmentation.runs import open_trained, train_run
from layerlab.segmentation.samples import load_sample
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.worst import CASES, read_worst

TINY = Settings(widths=(2, 4), size=16, batch=4, epochs=4, learning_rate=0.02, patience=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "shapes"
    train_run(Shapes(test=3), TINY, out=out, seed=3, source={"made": "here"})
    return out


def test_a_run_keeps_what_was_measured(run: Path) -> None:
    trained, data = open_trained(run), Shapes(test=3)
    results, parts = trained.run.meta["results"], data.parts(3)
    assert (trained.classes, trained.channels, trained.settings) == (data.classes, 1, TINY)
    assert not trained.model.training
    # Anew from the weights on disk, image by image.
    counts = {}
    for index in parts.validation:
        sample = load_sample(data, index, TINY)
        with torch.no_grad():
            probabilities = trained.model(sample.image[None].float()).softmax(1)[0]
        best = probabilities.max(0)
        counts[sample.name] = count(
            sample.mask.numpy(), best.indices.numpy(), 3, confidence=best.values.numpy()
        )
    expected, found = measure(list(counts.values())), results["measures"]["validation"]
    assert found["confusion"] == expected["confusion"]
    assert found["mean_boundary_iou"] == pytest.approx(expected["mean_boundary_iou"])
    assert found["calibration_error"] == pytest.approx(expected["calibration_error"], abs=1e-5)
    assert results["metrics"]["validation_iou"] == pytest.approx(expected["mean_iou"])
    assert results["measures"]["test"]["pixels"] == 3 * 255
    assert sum(map(sum, found["confusion"])) == 4 * 255
    assert {image["name"] for image in results["images"]} == set(counts)
    scores = [image["iou"] for image in results["images"]]
    assert scores == sorted(scores)
    assert trained.run.meta["config"]["images"]["test"] == [data.names[i] for i in parts.test]
    assert len(results["curves"]["stem_gradient"]) == 4
    assert all(value > 0 for value in results["curves"]["stem_gradient"])


def test_the_worst_cases_are_kept(run: Path) -> None:
    trained = open_trained(run)
    cases = read_worst(trained.run)
    assert [case.name for case in cases] == [image["name"] for image in trained.run.meta["results"]["images"]]
    data = Shapes(test=3)
    first = cases[0]
    pixels, mask = data.read(data.names.index(first.name))
    assert (first.target == mask).all()
    assert (first.image == (pixels * 255 + 0.5).astype(np.uint8)).mean() > 0.95  # halves round otherwise
    assert first.image.shape == (16, 16, 3)
    found = measure([count(first.target, first.prediction, 3)])
    assert first.iou == pytest.approx(found["mean_iou"])


def test_a_finished_run_is_not_trained_again_and_another_is_refused(run: Path) -> None:
    before = (run / WEIGHTS).stat().st_mtime_ns
    train_run(Shapes(test=3), TINY, out=run, seed=3, source={"made": "here"})
    assert (run / WEIGHTS).stat().st_mtime_ns == before
    for data, settings, seed in (
        (Shapes(test=3), replace(TINY, epochs=5), 3),
        (Shapes(test=3), TINY, 4),
        (Shapes(count=13, test=3), TINY, 3),
    ):
        with pytest.raises(UserError, match="another run"):
            train_run(data, settings, out=run, seed=seed, source={"made": "here"})


@pytest.mark.parametrize("augment", ["none", "photo"])
def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path, augment: str) -> None:
    settings = replace(TINY, augment=augment, dropout=0.1)
    whole = train_run(Shapes(), settings, out=tmp_path / "whole")

    def stop(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_run(Shapes(), settings, out=tmp_path / "parts", on_epoch=stop)
    assert (tmp_path / "parts" / "checkpoint.safetensors").exists()
    with pytest.raises(UserError, match="not finished"):
        open_trained(tmp_path / "parts")
    seen: list[int] = []
    again = train_run(
        Shapes(), settings, out=tmp_path / "parts", on_epoch=lambda epoch, *_: seen.append(epoch)
    )
    assert seen == [3, 4]
    assert_same(whole.path, again.path)
    assert whole.meta["results"]["curves"] == again.meta["results"]["curves"]
    assert not (tmp_path / "parts" / "checkpoint.safetensors").exists()


def assert_same(left: Path, right: Path) -> None:
    one, two = (read_tensors(path / WEIGHTS, "")[0] for path in (left, right))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_killed_process_is_resumed_with_the_same_weights(tmp_path: Path) -> None:
    settings = replace(TINY, epochs=20)
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        import layerlab.segmentation.runs as runs
        from layerlab.lab import training
        from layerlab.segmentation.settings import Settings
        import importlib.util
        spec = importlib.util.spec_from_file_location("shapes", sys.argv[2])
        shapes = importlib.util.module_from_spec(spec)
        sys.modules["shapes"] = shapes
        spec.loader.exec_module(shapes)
        settings = Settings(widths=(2, 4), size=16, batch=4, epochs=20, learning_rate=0.02, patience=None)
        fit = runs.fit
        runs.fit = lambda *a, **k: fit(*a, every_seconds=0, **k)
        import time
        runs.train_run(shapes.Shapes(), settings, out=Path(sys.argv[3]),
                       on_epoch=lambda epoch, *_: (print(epoch, flush=True), time.sleep(0.02)))
    """)
    here = Path(__file__).parent
    source = here.parents[1] / "src"
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(source), str(here / "shapes.py"), str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "3":
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert (out / "checkpoint.safetensors").exists()
    seen: list[int] = []
    again = train_run(Shapes(), settings, out=out, on_epoch=lambda epoch, *_: seen.append(epoch))
    assert 2 < seen[0] < 20
    whole = train_run(Shapes(), settings, out=tmp_path / "whole")
    assert_same(whole.path, again.path)


def test_damaged_runs_are_refused(run: Path, tmp_path: Path) -> None:
    def copied(change: Any) -> Path:
        folder = tmp_path / str(time.monotonic_ns())
        folder.mkdir()
        for name in ("run.json", WEIGHTS, CASES):
            (folder / name).write_bytes((run / name).read_bytes())
        meta = json.loads((folder / "run.json").read_text())
        change(meta, folder)
        (folder / "run.json").write_text(json.dumps(meta))
        return folder

    def cut(meta: dict[str, Any], folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(b"x")

    cases = (
        (cut, "not the one that this run wrote"),
        (lambda meta, _: meta["config"]["settings"].update(widths=[4096] * 10), "do not fit"),
        (lambda meta, _: meta["config"]["settings"].update(widths=[4, 2]), "weights of another model"),
        (lambda meta, _: meta["config"]["settings"].update(epochs="many"), "settings are damaged"),
        (lambda meta, _: meta["config"]["settings"].update(norm="odd"), "norm"),
        (lambda meta, _: meta["config"].update(channels=0), "number of channels"),
        (lambda meta, _: meta["config"].update(classes=[1]), "class names"),
        (lambda meta, _: meta.update(kind="graph-train"), "of kind"),
    )
    for change, message in cases:
        with pytest.raises(UserError, match=message):
            open_trained(copied(change))
    broken = copied(lambda meta, folder: (folder / CASES).write_bytes(b"x"))
    with pytest.raises(UserError, match="remove the file"):
        read_worst(open_trained(broken).run)
    gone = copied(lambda meta, folder: (folder / CASES).unlink())
    assert read_worst(open_trained(gone).run) == []


def test_a_diverging_run_says_when_and_what_to_do(tmp_path: Path) -> None:
    settings = replace(TINY, norm="none", learning_rate=1e3, epochs=30)
    with pytest.raises(
        UserError, match=r"(loss became (nan|inf) in epoch \d+|not finite).*lower the learning rate"
    ):
        train_run(Shapes(), settings, out=tmp_path / "run")


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    settings = replace(TINY, epochs=30, patience=3, learning_rate=0.05)
    results = train_run(Shapes(), settings, out=tmp_path / "run").meta["results"]
    curve = results["curves"]["validation_iou"]
    assert curve[results["best_epoch"] - 1] == max(curve)
