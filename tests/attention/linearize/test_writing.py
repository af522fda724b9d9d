"""The folder that is left: used without this package, whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from layerlab.attention.linearize import writing
from layerlab.attention.linearize.linearization import Linearization
from layerlab.attention.linearize.writing import check_free, usage, write_folder
from layerlab.errors import UserError

GIVEN = Path(__file__).parent / "given.py"
Made = Callable[..., Linearization]

# The lines that are printed, and the output of the model that they make.
_PROCESS = """
import sys
sys.modules["layerlab"] = None
import torch
from given import example_inputs
{usage}
with torch.no_grad():
    output = model(example_inputs())
assert not any(name.split(".")[0] == "layerlab" for name in sys.modules if sys.modules[name] is not None)
from safetensors.torch import save_file
save_file({{"output": output}}, sys.argv[1])
"""


@pytest.fixture
def found(made: Made, faster: None) -> Linearization:
    return made(max_error=0.9)


def test_a_fresh_process_without_this_package_gives_the_same_output(
    found: Linearization, tmp_path: Path
) -> None:
    folder = write_folder(found, tmp_path / "new", ["layerlab", "model", "linearize"])
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "attention.py",
        "model.safetensors",
        "report.html",
        "run.json",
    ]
    lines = usage(found.subject.name)
    assert lines in (folder / "README.md").read_text(encoding="utf-8")
    program = f"import sys\nsys.path[:0] = [{str(folder)!r}, {str(GIVEN.parent)!r}]\n" + _PROCESS.format(
        usage=lines
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path / "out.safetensors")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    got = load_file(tmp_path / "out.safetensors")["output"]
    assert found.model is not None and found.whole is not None
    with torch.no_grad():
        expected, clean = (m(found.subject.inputs) for m in (found.model, found.subject.model))
    assert torch.allclose(got, expected, rtol=1e-6, atol=1e-7)
    assert float((got - clean).norm() / clean.norm()) > 0.5 * found.whole.measured > 0.01


def test_the_record_and_the_page(found: Linearization, tmp_path: Path) -> None:
    folder = write_folder(found, tmp_path / "new", ["layerlab", "model", "linearize", "x.py:model"])
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["kind"] == "model-linearization" and run["command"] == "layerlab model linearize x.py:model"
    assert run["results"] == json.loads(json.dumps(found.to_dict()))
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in (
        "Each attention exchanged alone",
        "on inputs held out",
        "predicted: ",
        "times as fast",
        "hedgehog",
    ):
        assert words in page
    assert found.model is not None
    assert set(load_file(folder / "model.safetensors")) == set(found.model.state_dict())


def test_nothing_is_left_half_written(
    found: Linearization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise UserError("cannot be written (No space left on device)", file=path)

    monkeypatch.setattr(writing, "write_atomic", full)
    with pytest.raises(UserError, match="No space left"):
        write_folder(found, tmp_path / "new", ["layerlab"])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_touched(found: Linearization, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    check_free(tmp_path / "new")
    check_free(tmp_path / "not" / "yet")
    (tmp_path / "new" / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is there already; choose another --out"):
        write_folder(found, tmp_path / "new", ["layerlab"])
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mine"]
    with pytest.raises(UserError, match="is there already"):
        check_free(tmp_path / "new" / "mine")
    with pytest.raises(UserError, match="cannot be made"):
        check_free(tmp_path / "new" / "mine" / "below")


@pytest.mark.usefixtures("faster")
def test_what_is_refused_is_not_written(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to write: no swap is predicted"):
        write_folder(made(max_error=1e-6), tmp_path / "new", ["layerlab"])
    assert not (tmp_path / "new").exists()
