"""`layerlab graph`: train, predict and race as a shell sees them, and what is wrong in one line."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from layerlab.cli import progress

CLUB = Path(__file__).parents[2] / "examples" / "graph_folder"
Cli = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the example's folder, to be harmed."""
    folder = tmp_path / "club"
    shutil.copytree(CLUB, folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, cli: Cli) -> Path:
    folder = tmp_path / "run"
    assert cli("graph", "train", CLUB, "--model", "mlp", "--epochs", 2, "--out", folder).status == 0
    return folder


def replace_line(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def refused(result: Any) -> str:
    """The one line that a refusal prints."""
    assert result.status == 2
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    return line


# -------------------------------------------------------------------- good days


def test_train_says_what_came_out_and_how_to_go_on(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shown = cli("graph", "train", CLUB, "--epochs", 3, "--hidden", 5, "--seed", 2, "--out", out)
    assert shown.status == 0
    assert "gcn on graph_folder, protocol public, seed 2" in shown.out
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line
    ]
    results = json.loads((out / "run.json").read_text(encoding="utf-8"))["results"]
    metrics = results["metrics"]
    assert rows == [
        [part, f"{metrics[f'{part}_loss']:.4f}", f"{100 * metrics[f'{part}_accuracy']:.1f} %"]
        for part in ("validation", "test")
    ]
    assert f"epoch {results['best_epoch']} of 3 kept, 32 parameters" in shown.err
    assert f"layerlab graph predict {out} {CLUB} --out predictions.csv" in shown.err


def test_train_as_json(cli: Cli, tmp_path: Path) -> None:
    arguments = ["graph", "train", CLUB, "--model", "gat", "--epochs", 2, "--out", tmp_path / "run", "--json"]
    options = ["--learning-rate", 0.02, "--weight-decay", 0.001, "--dropout", 0.25, "--protocol", "random"]
    shown = cli(*arguments, *options)
    record = json.loads(shown.out)
    assert shown.err == ""
    assert (record["run"], record["data"], record["protocol"]) == (
        str(tmp_path / "run"),
        "graph_folder",
        "random",
    )
    given = {
        name: record["settings"][name]
        for name in ("model", "epochs", "learning_rate", "weight_decay", "dropout")
    }
    assert given == {
        "model": "gat",
        "epochs": 2,
        "learning_rate": 0.02,
        "weight_decay": 0.001,
        "dropout": 0.25,
    }
    assert set(record["metrics"]) >= {"loss", "validation_accuracy", "test_accuracy"}
    again = json.loads(cli(*arguments, *options).out)
    assert again == record, "the finished run was trained again"


def test_run_folders_have_names_by_default(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("graph", "train", CLUB, "--model", "mlp", "--epochs", 1, "--seed", 4).status == 0
    assert (tmp_path / "runs" / "graph_folder-mlp-4" / "run.json").is_file()
    meta = json.loads((tmp_path / "runs" / "graph_folder-mlp-4" / "run.json").read_text(encoding="utf-8"))
    assert meta["command"] == f"layerlab graph train {shlex.quote(str(CLUB))} --model mlp --epochs 1 --seed 4"
    assert cli("graph", "predict", "runs/graph_folder-mlp-4", CLUB).status == 0
    assert (tmp_path / "predictions.csv").is_file()


def test_predict_writes_a_line_a_node(cli: Cli, run: Path, tmp_path: Path) -> None:
    shown = cli("graph", "predict", run, CLUB, "--out", tmp_path / "p.csv")
    assert shown.status == 0
    assert "14 predictions" in shown.out
    assert f"written: {tmp_path / 'p.csv'}" in shown.err
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (CLUB / "nodes.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["id"] for row in rows] == [row["id"] for row in csv.DictReader(stream)]
    assert {row["label"] for row in rows} <= {"poetry", "sport"}
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


def test_predict_as_json(cli: Cli, run: Path, tmp_path: Path) -> None:
    shown = cli("graph", "predict", run, CLUB, "--out", tmp_path / "p.csv", "--json")
    record = json.loads(shown.out)
    assert shown.err == ""
    assert (record["out"], record["nodes"], sum(record["labels"].values())) == (
        str(tmp_path / "p.csv"),
        14,
        14,
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs for every model: `layerlab graph race` has no option for it."""
    from dataclasses import replace

    from layerlab.graph import experiments, runs

    original = experiments.settings_for

    def settings_for(model: str, protocol: str, dataset: str) -> Any:
        return replace(original(model, protocol, dataset), epochs=3, hidden=3)

    for module in (experiments, runs):
        monkeypatch.setattr(module, "settings_for", settings_for)


@pytest.mark.usefixtures("quick")
def test_race_prints_standings_and_differences(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "race"
    shown = cli("graph", "race", CLUB, "--models", " gcn, mlp,", "--seeds", 3, "--jobs", 1, "--out", out)
    assert shown.status == 0
    assert "graph_folder, protocol public, 3 seeds: test accuracy, per cent" in shown.out
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line
    ]
    summary = json.loads((out / "run.json").read_text(encoding="utf-8"))["results"]
    standings = {row[0]: row[1:] for row in rows}
    for model, entry in summary["contestants"].items():
        assert standings[model][0] == f"{100 * entry['mean']:.2f}"
        assert standings[model][1] == f"{100 * entry['sd']:.2f}"
        assert standings[model][2] == f"{100 * entry['low']:.2f} to {100 * entry['high']:.2f}"
        assert standings[model][3] == f"{entry['parameters']:,}"
    (pair,) = summary["differences"]
    assert standings["gcn - mlp"][0] == f"{100 * pair['mean']:+.2f}"
    assert standings["gcn - mlp"][2] == f"{pair['wins']}/3"
    assert f"report: {out / 'report.html'}" in shown.err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Race on graph_folder" in page
    assert "layerlab graph race" in page


@pytest.mark.usefixtures("quick")
def test_race_as_json_and_widened(cli: Cli, tmp_path: Path) -> None:
    arguments = ["graph", "race", CLUB, "--out", tmp_path / "race", "--jobs", 1, "--json"]
    first = cli(*arguments, "--models", "mlp", "--seeds", 1)
    assert first.err == ""
    record = json.loads(first.out)
    assert (record["seeds"], list(record["contestants"])) == ([0], ["mlp"])
    # One seed has no spread; JSON knows no NaN.
    assert record["contestants"]["mlp"]["sd"] is None
    assert record["report"] == str(tmp_path / "race" / "report.html")
    cell = tmp_path / "race" / "cells" / "mlp-0000.json"
    before = cell.read_bytes()
    wider = json.loads(cli(*arguments, "--models", "mlp,sgc", "--seeds", 2).out)
    assert set(wider["contestants"]) == {"mlp", "sgc"}
    assert len(wider["contestants"]["mlp"]["values"]) == 2
    assert cell.read_bytes() == before


@pytest.mark.usefixtures("quick")
def test_a_race_of_one_seed_shows_no_interval(cli: Cli, tmp_path: Path) -> None:
    shown = cli(
        "graph", "race", CLUB, "--models", "gcn,mlp", "--seeds", 1, "--jobs", 1, "--out", tmp_path / "r"
    )
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line
    ]
    assert [row[2:4] for row in rows] == [["-", "-"], ["-", "-"]]
    assert "Paired" not in shown.out
    assert "nan" not in shown.out.lower()


@pytest.mark.usefixtures("quick")
def test_a_race_without_test_nodes_says_that_it_compares_validation(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    nodes = data / "nodes.csv"
    nodes.write_text(nodes.read_text(encoding="utf-8").replace(",test,", ",,"), encoding="utf-8")
    shown = cli("graph", "race", data, "--models", "mlp", "--seeds", 2, "--jobs", 1, "--out", tmp_path / "r")
    assert shown.status == 0
    assert "2 seeds: validation accuracy, per cent" in shown.out
    assert "Validation accuracy" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    shown = cli("graph", "train", data, "--model", "mlp", "--epochs", 1, "--out", tmp_path / "t")
    assert "test" not in shown.out


@pytest.mark.parametrize("command", ["train", "predict", "race"])
def test_help_gives_an_example(cli: Cli, command: str) -> None:
    shown = cli("graph", command, "--help")
    assert shown.status == 0
    assert f"Example: layerlab graph {command} " in shown.out


# --------------------------------------------------------------------- bad input

HARMS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no folder", lambda data: shutil.rmtree(data), "there is no"),
    ("no nodes", lambda data: (data / "nodes.csv").unlink(), "nodes.csv: cannot read it"),
    ("no edges", lambda data: (data / "edges.csv").unlink(), "edges.csv: "),
    ("empty nodes", lambda data: (data / "nodes.csv").write_bytes(b""), "nodes.csv: it is empty"),
    ("empty edges", lambda data: (data / "edges.csv").write_bytes(b""), "edges.csv: "),
    (
        "dangling edge",
        lambda data: replace_line(data / "edges.csv", "ada,bela\n", "ada,bela\nada,zoe\n"),
        "edges.csv:3: edge names node 'zoe'",
    ),
    (
        "no number",
        lambda data: replace_line(data / "nodes.csv", "ada,poetry,train,9,", "ada,poetry,train,many,"),
        "nodes.csv:2: feature 'novels' is 'many'",
    ),
    (
        "not a number",
        lambda data: replace_line(data / "nodes.csv", "bela,poetry,train,7,", "bela,poetry,train,NaN,"),
        "nodes.csv:3: feature 'novels' is 'NaN'",
    ),
    (
        "unknown part",
        lambda data: replace_line(data / "nodes.csv", "bela,poetry,train,", "bela,poetry,dev,"),
        "nodes.csv:3: split is 'dev'",
    ),
    (
        "no label in a part",
        lambda data: replace_line(data / "nodes.csv", "bela,poetry,train,", "bela,,train,"),
        "nodes.csv:3: node 'bela' is in the split's part 'train' but has no label",
    ),
]


@pytest.mark.parametrize(
    ("harm", "expected"), [entry[1:] for entry in HARMS], ids=[entry[0] for entry in HARMS]
)
def test_bad_data_are_refused_and_nothing_is_written(
    cli: Cli, data: Path, run: Path, tmp_path: Path, harm: Callable[[Path], Any], expected: str
) -> None:
    harm(data)
    out = tmp_path / "out"
    for arguments in (
        ("train", data, "--out", out),
        ("race", data, "--seeds", 1, "--jobs", 1, "--out", out, "--json"),
        ("predict", run, data, "--out", out),
    ):
        assert expected in refused(cli("graph", *arguments)), arguments[0]
        assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train", CLUB, "--model", "gin"), "unknown model 'gin'; expected one of gcn, gat, sgc, mlp"),
        (("race", CLUB, "--models", "gcn,gin"), "unknown model 'gin'"),
        (("race", CLUB, "--models", "gcn,gcn"), "each model and each seed once"),
        (("race", CLUB, "--models", ""), "expected at least one model"),
        (("race", CLUB, "--models", " , "), "expected at least one model"),
        (("train", CLUB, "--protocol", "mine"), "unknown protocol 'mine'"),
        (("race", CLUB, "--protocol", "course"), "has 12 labelled ones; use --protocol random"),
        (("train", "citeseer"), "run `layerlab data get citeseer`"),
        (("race", "pubmed"), "run `layerlab data get pubmed`"),
        (("train", "nothing"), "there is no 'nothing'"),
        (("train", CLUB, "--learning-rate", "inf"), "setting learning_rate"),
        (("train", CLUB, "--hidden", "1000000"), "setting hidden"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...], expected: str
) -> None:
    monkeypatch.setenv("LAYERLAB_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert expected in refused(cli("graph", *arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", CLUB, "--epochs", 0),
        ("train", CLUB, "--seed", -1),
        ("train", CLUB, "--dropout", 1),
        ("race", CLUB, "--seeds", 0),
        ("race", CLUB, "--jobs", 0),
        ("predict", CLUB),
    ],
)
def test_an_option_out_of_range_names_itself(cli: Cli, arguments: tuple[Any, ...]) -> None:
    shown = cli("graph", *arguments)
    assert shown.status == 2
    assert shown.out == ""
    assert (str(arguments[2]) if len(arguments) > 2 else "DATA") in shown.err


def test_a_place_that_cannot_be_written_is_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("kept", encoding="utf-8")
    line = refused(cli("graph", "train", CLUB, "--out", taken))
    assert "it is a file; choose another --out" in line
    assert "choose another --out" in refused(cli("graph", "race", CLUB, "--out", taken / "race"))
    line = refused(cli("graph", "predict", run, CLUB, "--out", taken / "p.csv"))
    assert "cannot be written" in line
    assert "choose a writable place" in line
    assert taken.read_text(encoding="utf-8") == "kept"


def test_a_run_of_another_version_is_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    file = run / "run.json"
    meta = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**meta, "format_version": 2, "layerlab": "9.9"}), encoding="utf-8")
    for arguments in (
        ("train", CLUB, "--model", "mlp", "--epochs", 2, "--out", run),
        ("race", CLUB, "--out", run),
        ("predict", run, CLUB, "--out", tmp_path / "p.csv"),
    ):
        line = refused(cli("graph", *arguments))
        assert "run.json: expected a run of format version 1, got 2 (written by layerlab 9.9)" in line
    assert not (tmp_path / "p.csv").exists()


def test_a_run_of_another_kind_or_with_other_settings_is_refused(cli: Cli, run: Path) -> None:
    assert "the folder holds another run: config" in refused(cli("graph", "train", CLUB, "--out", run))
    assert "the folder holds another run" in refused(cli("graph", "race", CLUB, "--out", run))
    assert "expected the folder of a run" in refused(cli("graph", "predict", CLUB / "nodes.csv", CLUB))


def test_a_cell_that_was_cut_off_is_named(cli: Cli, tmp_path: Path) -> None:
    arguments = (
        "graph",
        "race",
        CLUB,
        "--models",
        "sgc",
        "--seeds",
        1,
        "--jobs",
        1,
        "--out",
        tmp_path / "race",
    )
    assert cli(*arguments).status == 0
    cell = tmp_path / "race" / "cells" / "sgc-0000.json"
    cell.write_bytes(cell.read_bytes()[:50])
    assert "sgc-0000.json" in refused(cli(*arguments))
    cell.unlink()
    assert cli(*arguments).status == 0


# ---------------------------------------------------------------- progress, Ctrl-C


@pytest.mark.parametrize(
    ("command", "display"), [(("train", CLUB), "epochs"), (("race", CLUB, "--jobs", 1), "race")]
)
def test_ctrl_c_says_how_to_go_on(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[Any, ...], display: str
) -> None:
    @contextmanager
    def interrupted(*_: Any) -> Iterator[Any]:
        def report(*_: Any) -> None:
            raise KeyboardInterrupt

        yield report

    monkeypatch.setattr(progress, display, interrupted)
    shown = cli("graph", *command, "--out", tmp_path / "run")
    assert shown.status == 130
    assert shown.out == ""
    assert f"in {tmp_path / 'run'}: run the same command to go on" in shown.err
    assert "Traceback" not in shown.err


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told of compiling, whichever test of a fresh clone is the first to use a kernel."""
    monkeypatch.setattr("layerlab.lab.kernels.kept.are_kept", lambda modules: True)


COMPILING = "compiling the kernels for this machine, once: about 20 s\n"


@pytest.fixture
def fresh_machine(monkeypatch: pytest.MonkeyPatch, compiled: None) -> list[tuple[str, ...]]:
    """Nothing is compiled yet; what was asked for."""
    asked: list[tuple[str, ...]] = []

    def are_kept(modules: tuple[str, ...]) -> bool:
        asked.append(tuple(name.rpartition(".")[2] for name in modules))
        return False

    monkeypatch.setattr("layerlab.lab.kernels.kept.are_kept", are_kept)
    return asked


def test_the_first_use_on_a_machine_says_what_it_waits_for(
    cli: Cli, tmp_path: Path, fresh_machine: list[tuple[str, ...]]
) -> None:
    train = ("graph", "train", CLUB, "--model", "gat", "--epochs", 1, "--out", tmp_path / "gat", "--json")
    shown = cli(*train)
    assert shown.err == COMPILING
    assert json.loads(shown.out)["protocol"] == "public"
    # The run is finished: nothing is trained and nothing compiled.
    assert cli(*train).err == ""
    race = ("graph", "race", CLUB, "--models", "mlp", "--seeds", 1, "--out", tmp_path / "race", "--json")
    assert cli(*race).err.startswith(COMPILING)
    assert fresh_machine == [
        ("products_cpu", "loss_cpu", "attention_cpu", "attention_backward_cpu"),
        ("products_cpu", "loss_cpu"),
    ]


def test_what_is_refused_compiles_nothing(
    cli: Cli, tmp_path: Path, fresh_machine: list[tuple[str, ...]]
) -> None:
    refused(cli("graph", "train", tmp_path / "none", "--out", tmp_path / "run"))
    refused(cli("graph", "race", CLUB, "--models", "gcn,none", "--out", tmp_path / "run"))
    refused(cli("reproduce", "--only", "none", "--out", tmp_path / "run"))
    assert fresh_machine == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_race_shows_every_contestants_mean_so_far(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress.race("club", ["gcn", "mlp"], 3) as report:
        report({"contestant": "gcn", "metrics": {"test_accuracy": 0.5, "validation_accuracy": 0.1}})
        report({"contestant": "gcn", "metrics": {"test_accuracy": 1.0, "validation_accuracy": 0.1}})
        report({"contestant": "mlp", "metrics": {"validation_accuracy": 0.25}})
    shown = terminal.getvalue()
    assert "club: gcn" in shown
    assert "2/3" in shown
    assert "mean accuracy 75.0 %" in shown
    assert "mean accuracy 25.0 %" in shown


def test_training_shows_the_epoch_and_its_metrics(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress.epochs("gcn on club") as report:
        report(7, 20, {"loss": 0.25, "validation_accuracy": 0.875, "other": 1.0})
    shown = terminal.getvalue()
    assert "7/20" in shown
    assert "loss 0.250  validation accuracy 0.875" in shown


def test_where_nobody_looks_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.epochs("gcn on club") as report:
        report(7, 20, {"loss": 0.25})
    with progress.race("club", ["gcn"], 1) as report_cell:
        report_cell({"contestant": "gcn", "metrics": {"test_accuracy": 0.5, "validation_accuracy": 0.5}})
    assert capsys.readouterr() == ("", "")
