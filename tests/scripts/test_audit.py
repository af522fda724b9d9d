"""The audit of dependencies: what it says of vulnerable pins, of pins nobody knows, and without a network."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "audit.py"))


def package(name: str, *found: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": identity, "fix_versions": ["1.1"]} for identity in found],
    }


def test_a_known_vulnerability_fails_and_is_named() -> None:
    status, lines = SCRIPT["told"]({"dependencies": [package("a"), package("b", "CVE-1")]})
    assert status == 1
    assert lines[0] == "b 1.0: CVE-1 (mended in 1.1)"


def test_what_was_not_looked_up_is_not_called_sound() -> None:
    skipped = {"name": "c", "skip_reason": "not found"}
    assert SCRIPT["told"]({"dependencies": [skipped]}) == (
        0,
        ["dependencies were NOT audited: no package was found in the index that was asked"],
    )
    status, lines = SCRIPT["told"]({"dependencies": [package("a"), skipped]})
    assert (status, lines) == (
        0,
        ["1 of 2 pinned packages looked up, no known vulnerability", "not looked up: c"],
    )


def test_without_network_it_says_so_and_passes_otherwise_it_fails() -> None:
    status, lines = SCRIPT["failed"]("Traceback\nrequests.exceptions.ConnectionError: Max retries exceeded\n")
    assert status == 0
    assert lines[0].startswith("dependencies were NOT audited: no network (requests")
    assert SCRIPT["failed"]("No module named pip_audit\n") == (
        1,
        ["pip-audit failed: No module named pip_audit"],
    )
