"""Look up every pinned version in the database of known vulnerabilities: pip-audit, told what a missing network means.

    python scripts/audit.py constraints.txt

Exit status 1 where a pinned version has a known vulnerability, or pip-audit does not work; 0 where there is none, and
where nothing could be looked up, which is said. pip-audit itself calls packages that it could not look up "no known
vulnerabilities".
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_AUDIT = [
    "-m",
    "pip_audit",
    "--no-deps",
    "--disable-pip",
    "--progress-spinner",
    "off",
    "--timeout",
    "15",
    "-f",
    "json",
]
_OFFLINE = (
    "Connection",
    "Max retries",
    "timed out",
    "Timeout",
    "resolve",
    "unreachable",
    "ProxyError",
    "SSLError",
    "503",
)


def told(answer: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit status and lines for what pip-audit found."""
    packages = answer["dependencies"]
    looked_up = [package for package in packages if "vulns" in package]
    bad = [
        f"{package['name']} {package['version']}: {found['id']}"
        f" (mended in {', '.join(found['fix_versions']) or 'no version yet'})"
        for package in looked_up
        for found in package["vulns"]
    ]
    if bad:
        return 1, [
            *bad,
            "raise these versions in constraints.txt (docs/decisions/0002-pinned-installs.md says how)",
        ]
    if not looked_up:
        return 0, ["dependencies were NOT audited: no package was found in the index that was asked"]
    missing = [package["name"] for package in packages if "vulns" not in package]
    lines = [f"{len(looked_up)} of {len(packages)} pinned packages looked up, no known vulnerability"]
    return 0, [*lines, *([f"not looked up: {', '.join(missing)}"] if missing else [])]


def failed(said: str) -> tuple[int, list[str]]:
    """Exit status and lines for a pip-audit that gave no answer."""
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "no reason given")
    if any(word in said for word in _OFFLINE):
        return 0, [f"dependencies were NOT audited: no network ({last[:150]})"]
    return 1, [f"pip-audit failed: {last[:300]}"]


def main(constraints: str) -> int:
    """Audit the file of pinned versions."""
    done = subprocess.run(
        [sys.executable, *_AUDIT, "-r", constraints], capture_output=True, text=True, check=False
    )
    try:
        status, lines = told(json.loads(done.stdout))
    except ValueError:
        status, lines = failed(done.stderr)
    for line in lines:
        print(line, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
