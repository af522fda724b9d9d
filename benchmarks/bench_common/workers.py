"""Questions to a process of its own: a module is run with one line of JSON and answers with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def ask(module: str, request: dict[str, Any], **variables: str) -> dict[str, Any]:
    """Run a worker; its last line of output is the answer.

    Args:
        module: of the benchmarks, which calls `answer`.
        request: its task and what that takes.
        variables: of the environment.

    Raises:
        subprocess.CalledProcessError: it failed; what it wrote is on standard error.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, json.dumps(request)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(tasks: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Carry out the task that the command line names, and print what it returns."""
    request = json.loads(sys.argv[1])
    print(json.dumps(tasks[request.pop("task")](**request)))
