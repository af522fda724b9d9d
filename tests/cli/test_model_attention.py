"""`layerlab model attention` as a shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
NET = """
import torch
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return x + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def net():
    return nn.Sequential(Layer(), Layer()).eval()


def example_inputs():
    return torch.randn(2, 24, 16)


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)


def plain():
    return nn.Linear(16, 4)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    file = tmp_path / "net.py"
    file.write_text(NET, encoding="utf-8")
    return file


def test_table(cli: Cli, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = cli("model", "attention", f"{net}:net", "--budget", 1, "--mechanism", "linear")
    assert done.status == 0, done.err
    assert "runs the code of" in done.err
    assert max(map(len, done.out.splitlines())) <= 100
    for words in (
        "Sequential, 1,632 parameters",
        "rank 99 %",
        "heads",
        "ranking, at most 2 % error",
        "verdict: ",
    ):
        assert words in done.out, words
    assert "2 heads of 8, batch 2, float32, forward" in done.out and "times as fast as softmax" in done.out


def test_json_report_and_folder(cli: Cli, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "look"
    done = cli(
        "model", "attention", f"{net}:net", "--budget", 1, "--mechanism", "linear", "--json", "--out", out
    )
    assert done.status == 0, done.err
    record = json.loads(done.out)
    assert record["report"] == str(out / "report.html")
    assert [site["site"] for site in record["sites"]] == ["0", "1"] and sorted(record["ranking"]) == [
        "0",
        "1",
    ]
    assert record["sites"][0]["heads"][0]["rank"]["mean"] > 0
    assert json.loads((out / "run.json").read_text())["results"]["ranking"] == record["ranking"]
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in (
        "Attention in Sequential",
        "Predicted error against speed",
        "Decay of the singular values",
        "Numerical rank by layer and head",
        "Entropy by layer and head",
        "What a lower rank costs",
    ):
        assert words in page, words


def test_a_training_encoder_by_shape(cli: Cli, net: Path) -> None:
    done = cli(
        *(
            "model",
            "attention",
            f"{net}:encoder",
            "--input-shape",
            "2,12,16",
            "--train",
            "--dtype",
            "float64",
        ),
        *("--budget", 1, "--mechanism", "linear", "--backward", "--json"),
    )
    assert done.status == 0, done.err
    record = json.loads(done.out)
    assert (record["mode"], record["dtype"], record["backward"]) == ("train", "float64", True)
    assert record["sites"][0]["site"] == "layers.0.self_attn" and record["sites"][0]["dropout"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plain", "--input-shape", "2,16"], "error: Linear computes no attention on these inputs"),
        (["net", "--mechanism", "sharp"], "error: expected a Mechanism or one of softmax, linear"),
        (["net", "--output", "none"], "error: the output 'none' is not among"),
        (["net", "--input-shape", "2,1,16"], "error: the attention of this model sees one key only"),
    ],
)
def test_bad_input_leaves_nothing(
    cli: Cli, net: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    name, *options = arguments
    out = tmp_path / "look"
    done = cli("model", "attention", f"{net}:{name}", *options, "--out", out)
    assert done.status == 2 and done.err.splitlines()[-1].startswith(words) and done.out == ""
    assert not out.exists()


def test_ctrl_c_takes_the_folder_back(
    cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerlab.attention.inspection import measure

    def interrupted(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "measure_heads", interrupted)
    done = cli("model", "attention", f"{net}:net", "--out", tmp_path / "look")
    assert done.status == 130 and not (tmp_path / "look").exists()


def test_help_has_an_example(cli: Cli) -> None:
    done = cli("model", "attention", "--help")
    assert done.status == 0 and "Example: layerlab model attention examples/transformer.py:model" in done.out
