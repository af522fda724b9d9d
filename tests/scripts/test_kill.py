"""Commands that are killed at seeded moments and begun again give the same; and the comparison can fail."""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

KILL: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "kill.py"))
SHORT = {
    "train": ("graph train data --model mlp --epochs 40 --out out", "", "-"),
    "optimise": (
        "estimator optimise f.py:f --bits 12 --single --budget 60 --seed 1 --out out",
        "--resume",
        "counts",
    ),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for what is left behind in /proc")
@pytest.mark.parametrize("name", SHORT)
def test_a_killed_command_begun_again_gives_the_same(name: str, tmp_path: Path) -> None:
    command = KILL["Command"](*SHORT[name])
    calm, killed = (KILL["prepared"](tmp_path / place, name) for place in ("calm", "killed"))
    first, whole = KILL["undisturbed"](calm, command)
    draw = random.Random(name)
    moments = [draw.uniform(first, whole)]
    _, problems = KILL["disturbed"](killed, command, moments)
    assert problems + KILL["differences"](calm, killed, command.ignored) == []
    assert (killed / "out" / "run.json").exists()


def test_differences_are_found(tmp_path: Path) -> None:
    def make(name: str, record: dict[str, Any], content: bytes = b"x") -> Path:
        out = tmp_path / name / "out"
        out.mkdir(parents=True)
        (out / "run.json").write_text(json.dumps({"place": str(tmp_path / name), **record}))
        (out / "p.bin").write_bytes(content)
        return tmp_path / name

    calm = make("calm", {"seconds": 1, "loss": 0.5})
    assert KILL["differences"](calm, make("same", {"seconds": 2, "loss": 0.5}), "-") == []
    other = make("other", {"seconds": 1, "loss": 0.25}, b"y")
    (other / "out" / "half").write_text("")
    assert KILL["differences"](calm, other, "-") == [
        "out/half is only in the disturbed run",
        "out/p.bin differs: \"b'x'\" and \"b'y'\"",
        "out/run.json differs .loss: '0.5' and '0.25'",
    ]
