"""What is told of the machine, and what is not."""

from __future__ import annotations

import getpass
import json
import os
import socket
from pathlib import Path

import pytest

from layerlab.lab.machine import available_cores, environment


def test_environment_has_versions_and_no_names_of_person_or_place() -> None:
    found = environment()
    assert {"python", "layerlab", "torch", "numpy", "scipy", "os", "cpu", "cores", "threads"} == set(found)
    assert found["cores"] >= 1
    assert found["threads"] >= 1
    assert found["cpu"].strip()
    text = json.dumps(found)
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    for name in {socket.gethostname(), getpass.getuser()} - {"root", "localhost"}:
        assert name not in text


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 4}, raising=False)
    assert available_cores() == environment()["cores"] == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
