"""A short run of the fuzz campaign, and that it finds what it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
QUICK = ("space", "classes-json", "monitor")


def test_a_short_run_finds_nothing() -> None:
    only = [word for name in QUICK for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "fuzz.py"), "--first", "100", "--count", "6", *only],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{6 * len(QUICK)} cases of {len(QUICK)} subjects, 0 findings" in done.stdout, (
        done.stdout + done.stderr
    )
    assert done.returncode == 0


FINDINGS = {
    "raise KeyError('a')": "KeyError",
    "import warnings; warnings.warn('odd')": "UserWarning: odd",
    "print('\\x1b[31m')": "control character",
    "import sys; print('error: x', file=sys.stderr); sys.exit(2)": "status 2 and 1 lines",
    "import sys; sys.exit(1)": "status 1",
    "import sys; print('7' * 2000, file=sys.stderr)": "a line of over",
    "pass": "None",
}
JUDGE = """
import sys, pathlib
place, folder, *codes = sys.argv[1:]
sys.path.insert(0, place)
import fuzz, fuzz_subjects, layerlab.cli
for code in codes:
    layerlab.cli.main = lambda: exec(code)
    print(fuzz._read(fuzz_subjects.Subject(print, ["x"], []), ["x"], pathlib.Path(folder), False)[0])
"""


def test_what_is_a_finding(tmp_path: Path) -> None:
    words = [sys.executable, "-c", JUDGE, str(SCRIPTS), str(tmp_path), *FINDINGS]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(FINDINGS)
    for line, expected in zip(lines, FINDINGS.values(), strict=True):
        assert expected in line
