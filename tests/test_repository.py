"""No tracked file names what belongs to one machine: a registry's host, an absolute path."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Written in pieces, so that this file does not find itself.
_HOSTS = [
    "py" + r"pi\.org",
    "python" + r"hosted\.org",
    "download\\." + r"pytorch\.org",
    "ana" + r"conda\.org",
]
_FOLDERS = ["wo" + "rk", "ro" + "ot", "op" + "t", "ho" + "me/[a-z]"]
FORBIDDEN = re.compile(rf"{'|'.join(_HOSTS)}|(?<![\w.~/$}}-])/(?:{'|'.join(_FOLDERS)})\b".encode())


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are tracked")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_host_or_a_path_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue  # compressed data
        for number, line in enumerate(content.splitlines(), start=1):
            if FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_no_tracked_file_is_large() -> None:
    assert [path.name for path in tracked_files() if path.stat().st_size > 300_000] == []


@pytest.mark.parametrize("pieces", [("see /wo", "rk/main"), ("https://py", "pi.org/simple"), ("'/ro", "ot'")])
def test_a_wrong_line_is_found(pieces: tuple[str, str]) -> None:
    assert FORBIDDEN.search("".join(pieces).encode())


@pytest.mark.parametrize(
    "line", ["and/or", "a/root/b", "https://pytorch.org/get-started", "graph/work", "~/work"]
)
def test_a_right_line_passes(line: str) -> None:
    assert not FORBIDDEN.search(line.encode())
