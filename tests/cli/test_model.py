"""`layerlab model inspect` as a shell sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
GIVEN = Path(__file__).parent / "given_models.py"
MODELS = Path(__file__).parents[1] / "gradflow" / "models.py"
RAISING = 1 + GIVEN.read_text().splitlines().index('    raise RuntimeError("no weights")')
Cli = Callable[..., Any]


def record(cli: Cli, *arguments: Any) -> dict[str, Any]:
    done = cli("model", "inspect", *arguments, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_the_deep_sigmoid_vanishes_at_its_fourth_layer(cli: Cli) -> None:
    done = cli("model", "inspect", EXAMPLES / "deep_sigmoid.py:model")
    assert done.status == 0
    assert done.err.splitlines() == [
        f"runs the code of {EXAMPLES / 'deep_sigmoid.py'} and calls its model(); no other code than this is executed"
    ]
    assert "▸ layer4.sigmoid" in done.out and done.out.count("▸") == 1
    assert "vanishing: " in done.out and "0.1 % from layer4.sigmoid" in done.out
    assert "remedies, each tried on a copy" in done.out and "ReLU, all layers" in done.out
    assert "example_inputs() of" in done.out and "in train mode, as the factory returns it" in done.out


def test_the_example_resnet_is_healthy(cli: Cli) -> None:
    found = record(cli, EXAMPLES / "resnet.py:model")
    assert found["verdict"]["kind"] == "healthy" and found["mode"] == "eval" and found["separate"]
    assert all(layer["bound"] is not None for layer in found["layers"])


def test_the_example_lstm_is_measured_through_time(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "look"
    done = cli("model", "inspect", EXAMPLES / "lstm.py:model", "--out", out)
    assert done.status == 0 and "lstm (LSTM) layer 0 forward" in done.out and "horizon" in done.out
    (layer,) = json.loads((out / "run.json").read_text())["results"]["through_time"]["layers"]
    assert layer["verdict"] == "vanishing" and layer["vanishing"]["first"] == 12
    assert "Through time" in (out / "report.html").read_text(encoding="utf-8")


def test_report_json_and_the_same_again(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "look"
    found = record(cli, f"{GIVEN}:mlp", "--report", "--out", out)
    assert found["report"] == str(out / "report.html") and len(found["layers"]) == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Gradients against depth" in page and "Healthy" in page and "Where the bounds come from" in page
    again = record(cli, f"{GIVEN}:mlp", "--report", "--out", out)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    other = cli("model", "inspect", f"{GIVEN}:mlp", "--seed", 1, "--out", out)
    assert other.status == 2 and "seed is 0 there and 1 here" in other.err
    assert (out / "report.html").read_text(encoding="utf-8").count("Healthy") == page.count("Healthy")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["no_weights", "--input-shape", "1,4"], "healthy", "Singular values of each layer"),
        (["scalar"], "healthy", "samples mix"),
        (["cut"], "vanishing", "No gradient reaches any layer"),
        (["dead"], "vanishing", "Units without a slope"),
    ],
)
def test_pages_of_unusual_models(
    cli: Cli, tmp_path: Path, arguments: list[str], kind: str, words: str
) -> None:
    found = record(cli, f"{GIVEN}:{arguments[0]}", *arguments[1:], "--out", tmp_path / "look")
    page = (tmp_path / "look" / "report.html").read_text(encoding="utf-8").lower()
    assert found["verdict"]["kind"] == kind and words.lower() in page
    assert cli("model", "inspect", f"{GIVEN}:{arguments[0]}", *arguments[1:]).status == 0


def test_a_remedy_is_measured_and_can_be_left_out(cli: Cli, tmp_path: Path) -> None:
    found = record(cli, EXAMPLES / "deep_sigmoid.py:model", "--out", tmp_path / "look")
    best = found["remedies"][0]
    assert best["helped"] and best["verdict_after"]["kind"] == "healthy"
    assert best["log_factor_before"] == found["verdict"]["log_factor"] < -10 < best["log_factor_after"]
    page = (tmp_path / "look" / "report.html").read_text(encoding="utf-8")
    assert "Remedies, each tried on a copy" in page and "Healthy" in page
    assert record(cli, f"{GIVEN}:dead", "--no-remedy")["remedies"] == []


def test_nothing_is_written_without_being_asked_for(cli: Cli, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("model", "inspect", f"{GIVEN}:mlp").status == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "columns"), [(80, 6), (120, 9)])
def test_the_table_fits_the_terminal(cli: Cli, monkeypatch: Any, width: int, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = cli("model", "inspect", f"{MODELS}:resnet", "--input-shape", "2,2,8,8")
    table = [line for line in done.out.splitlines() if line.startswith(("┏", "┃", "│"))]
    assert max(map(len, table)) <= width
    assert table[1].count("┃") - 1 == columns
    assert "bound" in table[1] and "gradient" in table[1]
    # Rows are one line each: names are shortened, not folded.
    assert len(table) == 2 + 7


def test_a_long_model_is_shown_in_part(cli: Cli) -> None:
    done = cli("model", "inspect", f"{GIVEN}:long")
    table = done.out.partition("└")[0]
    rows = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    hidden = sum(int(row.split()[1]) for row in rows if row.startswith("…"))
    shown = [row for row in rows if not row.startswith("…")]
    assert hidden + len(shown) == 80 and 40 <= len(shown) <= 60
    assert shown[0].endswith("0") and shown[-1].endswith("79") and sum("▸" in row for row in shown) == 1


def test_inputs_from_shapes_and_files(cli: Cli, tmp_path: Path) -> None:
    shapes = ["--input-shape", "x=3,4", "--input-shape", "y=3,2", "--input-shape", "mask=3,3:bool"]
    named = record(cli, f"{GIVEN}:Two", *shapes, "--wrt", "x")
    assert [given["name"] for given in named["inputs"]] == ["x", "y", "mask"]
    assert named["samples"] == 3 and named["inputs"][2]["dtype"] == "bool"
    batch = tmp_path / "batch.npz"
    np.savez(batch, x=np.ones((5, 4)), y=np.ones((5, 2)))
    filed = record(cli, f"{GIVEN}:Two", "--inputs", batch, "--wrt", "y")
    assert filed["samples"] == 5 and any("float64 to float32" in note for note in filed["notes"])
    tokens = record(cli, f"{MODELS}:Decoder", "--input-shape", "2,5:int11", "--loss", "cross-entropy")
    assert tokens["inputs"][0]["dtype"] == "int64" and tokens["cotangent"] == "loss"


def test_inputs_are_found_where_none_are_given(cli: Cli) -> None:
    assert any("Linear(6, 5)" in note for note in record(cli, f"{GIVEN}:mlp")["notes"])
    example = record(cli, f"{GIVEN}:with_example")
    assert example["samples"] == 3 and any("example_input_array" in note for note in example["notes"])


@pytest.mark.parametrize(
    ("option", "notes"), [([], "of several outputs logits"), (["--output", "hidden"], "")]
)
def test_one_of_several_outputs(cli: Cli, option: list[str], notes: str) -> None:
    found = record(cli, f"{GIVEN}:dictionary", *option)
    assert notes in " ".join(found["notes"]) and len(found["layers"]) == (1 if option else 2)


def test_outputs_of_other_kinds(cli: Cli) -> None:
    assert any("outputs 0 is looked at" in note for note in record(cli, f"{GIVEN}:pair")["notes"])
    inner = record(cli, f"{GIVEN}:pair", "--output", "1.0")
    assert inner["layers"][-1]["kind"] == "tanh"
    assert not record(cli, f"{GIVEN}:scalar")["separate"]


def test_mode_dtype_and_seed_are_as_asked(cli: Cli) -> None:
    double = record(cli, f"{GIVEN}:half", "--dtype", "float64", "--eval")
    assert double["dtype"] == "float64" and double["mode"] == "eval"
    assert not any("as the factory returns it" in note for note in double["notes"])
    one, two = (record(cli, f"{GIVEN}:mlp", "--seed", seed)["layers"][0]["sigma_max"] for seed in (1, 2))
    assert one != two
    assert record(cli, f"{GIVEN}:mlp", "--seed", 1)["layers"][0]["sigma_max"] == one


def test_a_model_that_counts_is_measured_as_it_was(cli: Cli) -> None:
    # Every pass finds the state of the first: the factor is always 1.
    found = record(cli, f"{GIVEN}:counts")
    assert found["layers"][-1]["sigma_max"][0] == pytest.approx(1.0)


def test_losses(cli: Cli) -> None:
    mean = record(cli, f"{GIVEN}:mlp", "--loss", f"{GIVEN}:loss")
    assert mean["cotangent"] == "loss" and mean["log_output_gradient"][0] < 0
    assert any("random targets" in note for note in record(cli, f"{GIVEN}:mlp", "--loss", "mse")["notes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["raises"], f"given_models.py:{RAISING}: "),
        (["needs"], "needs the arguments width"),
        (["number"], "returned int; expected a torch.nn.Module"),
        (["gone"], "has no 'gone'"),
        (["nowhere"], "meta device"),
        (["half", "--dtype", "float16"], "expected --dtype float32 or float64"),
        (["images"], "--input-shape 8,3,32,32"),
        (["no_weights"], "for instance --input-shape 16,64"),
        (["mlp", "--input-shape", "3,7"], "called with inputs of shape (3, 7), raised RuntimeError: mat1"),
        (["mlp", "--input-shape", "3x7"], "got '3x7'"),
        (["mlp", "--input-shape", "3,0"], "has a 0"),
        (["mlp", "--input-shape", "99999,99999"], "take fewer"),
        (["mlp", "--input-shape", "x=3,6", "--input-shape", "3,6"], "name every input once"),
        (["mlp", "--input-shape", "3,6", "--inputs", "b.npz"], "not both"),
        (["Two"], "missing 1 required positional argument: 'y'; these inputs were a guess: give others"),
        (
            ["Two", "--input-shape", "3,4", "--input-shape", "3,2"],
            "choose which to differentiate with --wrt, of 0, 1",
        ),
        (["Two", "--input-shape", "3,4", "--wrt", "z"], "the input 'z' is not among"),
        (["pair", "--output", "7"], "there are 0, 1.0"),
        (["integers"], "torch.int64, which is not differentiable"),
        (["nothing"], "returns NoneType, in which there is no tensor"),
        (["constant"], "does not depend on the input"),
        (["nan_weight"], "the parameter 2.weight has entries that are NaN or Inf"),
        (["infinite"], "NaN or Inf first appears in log"),
        (["wrong_shape"], "given_models.py:"),
        (["writes"], "writes to its parameter first.weight"),
        (["huge"], "out of memory; pass fewer samples"),
        (["mlp", "--loss", "l2"], "expected --loss mse, cross-entropy or FILE.py:FUNCTION, got 'l2'"),
        (
            ["mlp", "--loss", f"{GIVEN}:loss_of_many"],
            "returned shape (16, 3); expected a tensor with one real number",
        ),
        (["mlp", "--loss", f"{GIVEN}:loss_that_raises"], "raised IndexError"),
        (["mlp", "--layers", "9*"], "no module that is called fits '9*'"),
    ],
    ids=lambda value: "-".join(value).replace(str(GIVEN), "") if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(cli: Cli, tmp_path: Path, arguments: list[str], words: str) -> None:
    out = tmp_path / "look"
    done = cli("model", "inspect", f"{GIVEN}:{arguments[0]}", *arguments[1:], "--out", out)
    lines = done.err.splitlines()
    assert done.status == 2 and len(lines) == 2 and lines[1].startswith("error: "), done.err
    assert words in lines[1]
    assert done.out == "" and not out.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not an archive", None])
def test_files_that_are_no_arrays(cli: Cli, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "batch.npz"
    if content is not None:
        path.write_bytes(content)
    done = cli("model", "inspect", f"{GIVEN}:mlp", "--inputs", path)
    assert done.status == 2 and "batch.npz: " in done.err and len(done.err.splitlines()) == 2


def test_a_place_that_cannot_be_written_is_told_before_the_work(cli: Cli, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("mine")
    for place in (taken, taken / "inside"):
        done = cli("model", "inspect", f"{GIVEN}:raises", "--out", place)
        assert done.status == 2 and "choose another --out" in done.err
    assert taken.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_no_permission(cli: Cli, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = cli("model", "inspect", f"{GIVEN}:mlp", "--out", tmp_path / "look")
    tmp_path.chmod(0o700)
    assert done.status == 2 and "cannot be made" in done.err


def test_an_interrupt_leaves_nothing_behind(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "look"
    done = cli("model", "inspect", f"{GIVEN}:interrupted", "--out", out)
    assert done.status == 130 and not out.exists()
    record(cli, f"{GIVEN}:mlp", "--out", out)
    before = (out / "run.json").read_bytes()
    assert cli("model", "inspect", f"{GIVEN}:interrupted", "--out", out).status == 2
    assert (out / "run.json").read_bytes() == before
