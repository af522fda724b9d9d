"""All that commands print goes one way, and a terminal obeys none of it."""

from __future__ import annotations

import ast
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.text import Text

import layerlab.cli
from layerlab.cli import output
from layerlab.cli.progress import share

# What moves the cursor, colours, rings, hides, or turns the direction of writing.
OBEYED = "\x1b[2J \x07 \x08 \r \x9b31m \x7f \u202e \u200b"


def obeyed(shown: str) -> set[str]:
    return {letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cf", "Cs")} - {"\n"}


@pytest.mark.parametrize(
    "put",
    [
        output.say,
        output.answer,
        output.print_json,
        lambda text: output.print_json({text: [text]}),
        lambda text: output.print_table(text, ["a", "b"], [[text, "1"]]),
        lambda text: output.console().print(Text(text), style="bold"),
        lambda text: output.console(stderr=True).print(text),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(put: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(put)
    put(f"before {OBEYED} after")
    shown = "".join(capsys.readouterr())
    assert obeyed(shown) == set()
    # rich leaves out some of it by itself.
    assert "before" in shown
    assert "1b" in shown
    assert "202e" in shown


def test_bars_too(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = output.console(stderr=True)
    terminal._force_terminal = True
    with Progress(TextColumn("{task.description}", markup=False), console=terminal) as progress:
        progress.add_task(f"a [bold] file {OBEYED}")
    shown = capsys.readouterr().err
    assert r"a [bold] file \x1b[2J" in shown
    assert not {"\x1b[2J", "\u202e", "\x07"} & {
        shown[at : at + size] for at in range(len(shown)) for size in (1, 4)
    }


def test_a_colour_is_still_a_colour(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = output.console()
    assert isinstance(terminal, Console)
    terminal._force_terminal, terminal.no_color = True, False
    terminal._color_system = Console(force_terminal=True, color_system="standard")._color_system
    terminal.print(Text("red", style="red"))
    assert "\x1b[31mred\x1b[0m" in capsys.readouterr().out


def test_no_command_prints_another_way() -> None:
    folder = Path(layerlab.cli.__file__).parent
    for file in sorted(folder.glob("*.py")):
        if file.name == "output.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"print", "Console", "typer.echo", "typer.secho"}, (
                    file.name,
                    node.lineno,
                )
                if called == "TextColumn":
                    assert "markup=False" in ast.unparse(node), (file.name, node.lineno)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.recursive(st.text(max_size=20), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_what_it_was(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shown: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: shown.append(text))
        output.print_json(value)
    assert json.loads(shown[0]) == value
    assert obeyed(shown[0]) == set()


def test_a_bar_ends_with_its_work() -> None:
    with share("a [name") as tell:
        tell(0.5, "half [of")
