"""What a user names: good ones are built, bad ones are one line with file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from layerlab.errors import UserError
from layerlab.lab.subjects import build_module, load, notice, user_code

NET = """
import dataclasses
import random
from torch import nn
from helper_beside import WIDTH

@dataclasses.dataclass
class Setting:
    width: int = WIDTH

ready = nn.ReLU()
number = 3

def model(): return nn.Linear(Setting().width, 2)
def needs(width, *, depth, p=0.5): return nn.Linear(width, depth)
def none(): return None
def raises():
    return nn.Linear(2, 2)(3)
def leaves(): raise SystemExit(3)
class Net(nn.Module): pass
class Wide(nn.Module):
    def __init__(self, width): super().__init__()
"""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "helper_beside.py").write_text("WIDTH = 5\n")
    # The name of a module of the standard library, which the file itself imports.
    path = tmp_path / "random.py"
    path.write_text(NET)
    yield path
    sys.modules.pop("helper_beside", None)


def test_factories_classes_and_modules_are_built(net: Path) -> None:
    before = list(sys.path)
    assert build_module(f"{net}:model").in_features == 5
    assert type(build_module(f"{net}:Net")).__name__ == "Net"
    assert isinstance(build_module(f"{net}:ready"), nn.ReLU)
    assert isinstance(build_module("torch.nn:Tanh"), nn.Tanh)
    assert load(f"{net}:Setting.width") == 5
    assert sys.path == before
    # The file has not taken the place of its namesake.
    assert not hasattr(sys.modules["random"], "ready")


def test_modules_beside_the_working_folder_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_net.py").write_text("from torch import nn\ndef model(): return nn.Identity()\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(build_module("my_own_net:model"), nn.Identity)
    sys.modules.pop("my_own_net")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", r"has no 'absent'; it offers Net, Setting, Wide, leaves, model, needs, none, raises"),
        ("number", "is of type int; expected a function that returns a module"),
        ("needs", r"needs the arguments width, depth; name a factory that takes none"),
        ("Wide", "needs the arguments width;"),
        ("none", "returned NoneType; expected a torch.nn.Module"),
        ("raises", r"random\.py:18: .*:raises raised TypeError: "),
        ("leaves", r"random\.py:19: .*:leaves raised SystemExit: 3"),
    ],
)
def test_bad_factories_are_one_line(net: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_module(f"{net}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = (", r"broken\.py:2: loading broken\.py raised SyntaxError"),
        ("import nothing_of_that_name\n", r"broken\.py:1: loading broken\.py raised ModuleNotFoundError"),
        ("a = 1\n\nb = a / 0\n", r"broken\.py:3: loading broken\.py raised ZeroDivisionError"),
    ],
)
def test_files_that_do_not_load(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    modules = set(sys.modules)
    with pytest.raises(UserError, match=message):
        load(f"{path}:model")
    assert "_layerlab_subject_broken" not in set(sys.modules) - modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.py:model", "nowhere.py: no such file"),
        ("model", "expected FILE.py:FACTORY or package.module:factory, got 'model'"),
        ("net.py:", "expected FILE.py:FACTORY"),
        (":model", "expected FILE.py:FACTORY"),
        ("no_such_package.inner:model", "there is no module 'no_such_package.inner'"),
        ("torch.no_such_part:model", "there is no module 'torch.no_such_part'"),
    ],
)
def test_names_that_name_nothing(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(text)


def test_a_module_whose_own_import_is_missing_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imports_more.py").write_text("\nimport nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"imports_more\.py:2: importing imports_more raised ModuleNotFound"):
        load("imports_more:model")


def test_what_is_executed_is_said() -> None:
    assert notice("net.py:model").startswith("runs the code of net.py")
    with pytest.raises(UserError):
        notice("net.py")


def test_interrupts_and_own_errors_pass_as_they_are() -> None:
    with pytest.raises(KeyboardInterrupt), user_code("f() raised"):
        raise KeyboardInterrupt
    with pytest.raises(UserError, match=r"^as it is$"), user_code("f() raised"):
        raise UserError("as it is")


def test_what_is_no_exception_counts_as_raised_but_for_ctrl_c() -> None:
    with pytest.raises(UserError, match="f raised BaseException: odd"), user_code("f raised"):
        raise BaseException("odd")
    with pytest.raises(KeyboardInterrupt), user_code("f raised"):
        raise KeyboardInterrupt
